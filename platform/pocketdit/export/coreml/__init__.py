"""Core ML packages: conversion, interpreter, census, and bundles."""

"""Finds images that a source contains more than once.

The hashes are kept in a temporary database on disk, so memory use does not grow with the number of images.
"""

import sqlite3
from itertools import pairwise
from typing import NamedTuple

HASH_BITS = 64
MAX_DISTANCE = 15  # in bits; at larger distances, different images would count as duplicates


class ImageHashes(NamedTuple):
    """Hashes of an image.

    Attributes:
        pixels: Hash of the size and of all pixels.
        look: Perceptual hash of ``HASH_BITS`` bits. Only a few bits change if the image is scaled, compressed or
            slightly edited.
    """

    pixels: str
    look: int


class DuplicateIndex:
    """An index that finds duplicates. Of several similar images, the one added first counts as the original.

    Args:
        distance: Images whose perceptual hashes differ in at most this number of bits are similar. If None, only
            images with the same pixels are found.

    If the bits of two hashes are divided into d + 1 bands and the hashes differ in at most d bits, at least one band is
    equal, by the pigeonhole principle. Therefore, only hashes with an equal band are compared.
    """

    def __init__(self, distance: int | None) -> None:
        self._distance = distance
        # A single band of 64 bits would exceed the range of SQLite's integers.
        self._bands = _bands(0 if distance is None else max(2, distance + 1))
        self._database = sqlite3.connect("", isolation_level=None)  # an empty name creates a temporary file
        self._database.execute("PRAGMA journal_mode = OFF")
        self._database.execute("CREATE TABLE pixels (hash TEXT PRIMARY KEY, id TEXT) WITHOUT ROWID")
        self._database.execute(
            "CREATE TABLE looks (band INTEGER, bits INTEGER, hash TEXT, id TEXT, PRIMARY KEY (band, bits, hash))"
            " WITHOUT ROWID"
        )

    def add(self, name: str, hashes: ImageHashes) -> str | None:
        """Add an image, unless it is a duplicate.

        Returns:
            The name of the original if the image is a duplicate, otherwise None.
        """
        original = self._find(hashes)
        if original is None:
            self._database.execute("INSERT INTO pixels VALUES (?, ?)", (hashes.pixels, name))
            rows = [(band, bits, f"{hashes.look:016x}", name) for band, bits in self._split(hashes.look)]
            self._database.executemany("INSERT OR IGNORE INTO looks VALUES (?, ?, ?, ?)", rows)
        return original

    def close(self) -> None:
        """Remove the database."""
        self._database.close()

    def _find(self, hashes: ImageHashes) -> str | None:
        if row := self._database.execute("SELECT id FROM pixels WHERE hash = ?", (hashes.pixels,)).fetchone():
            return str(row[0])
        query = "SELECT hash, id FROM looks WHERE band = ? AND bits = ?"
        nearest: tuple[int, str, str] | None = None
        for key in self._split(hashes.look):
            for other, name in self._database.execute(query, key):
                distance = (int(other, 16) ^ hashes.look).bit_count()
                if self._distance is not None and distance <= self._distance:
                    nearest = min(nearest or (distance, other, name), (distance, other, name))
        return nearest[2] if nearest else None

    def _split(self, look: int) -> list[tuple[int, int]]:
        return [(number, look >> shift & (1 << width) - 1) for number, (shift, width) in enumerate(self._bands)]


def _bands(count: int) -> list[tuple[int, int]]:
    """Divide the bits of a hash into bands of about equal width, and return each band's lowest bit and width."""
    edges = [HASH_BITS * i // count for i in range(count + 1)] if count else []
    return [(low, high - low) for low, high in pairwise(edges)]

// Stores each choice at once, handles the keyboard, and enlarges images. The form also works without this script.
"use strict";

const RETRY_MS = 2000;
const form = document.querySelector("form");
const status_ = document.querySelector("#status");
const questions = [...document.querySelectorAll("[data-question]")];
const dialog = document.querySelector("dialog");
const unsaved = new Map(); // maps each question to a choice that the server has not confirmed yet
let saving = null; // the request in progress
let leaving = false;

function show(text, failed = false) {
  status_.textContent = text;
  status_.classList.toggle("failed", failed);
}

// Sends the choices that changed, one request at a time, so that a later choice cannot be overwritten by an earlier one.
async function save() {
  while (unsaved.size > 0) {
    const sent = new Map(unsaved);
    let response;
    try {
      response = await fetch(form.action, { method: "POST", body: new URLSearchParams([...sent]), keepalive: true });
    } catch {
      response = { ok: false, status: 0 };
    }
    if (response.ok) {
      for (const [name, value] of sent) {
        if (unsaved.get(name) === value) unsaved.delete(name);
      }
    } else if (response.status >= 400 && response.status < 500 && response.status !== 429) {
      show("Not saved. Reload this page.", true);
      return false;
    } else {
      show("Not saved yet. Trying again; keep this page open.", true);
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    }
  }
  show("Saved.");
  return true;
}

function flush() {
  saving ??= save().finally(() => { saving = null; });
  return saving;
}

function isAnswered(question) {
  return question.querySelector(":checked") !== null;
}

function current() {
  const focused = questions.find((question) => question.contains(document.activeElement));
  return focused ?? questions.find((question) => !isAnswered(question)) ?? null;
}

function mark() {
  const marked = current();
  for (const question of questions) question.classList.toggle("current", question === marked);
}

function choose(value) {
  const question = current();
  const input = question?.querySelector(`input[value="${value}"]`);
  if (!input) return;
  if (!input.checked) {
    input.checked = true;
    input.dispatchEvent(new Event("change", { bubbles: true }));
  }
  const following = questions.slice(questions.indexOf(question) + 1);
  const target = [...following, ...questions].find((other) => !isAnswered(other));
  (target ?? form.querySelector("[value=next]")).focus();
  mark();
}

async function leave(address) {
  if (leaving) return;
  leaving = true;
  if (await flush()) window.location.assign(address);
  else leaving = false;
}

function next() {
  const missing = questions.find((question) => !isAnswered(question));
  if (missing) {
    show("Answer every question first.", true);
    missing.focus();
    mark();
  } else {
    leave(form.dataset.next);
  }
}

function enlarge(side) {
  const image = document.querySelector(`[data-enlarge="${side}"] img`);
  dialog.dataset.side = side;
  dialog.querySelector("img").src = image.src;
  dialog.querySelector("img").alt = `The ${side} image, enlarged`;
  dialog.querySelector("span").textContent = side === "left" ? "Left" : "Right";
  if (!dialog.open) dialog.showModal();
}

const KEYS = { ArrowLeft: "left", 1: "left", ArrowRight: "right", 2: "right", 0: "tie" };

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  if (dialog.open) {
    if (event.key === "ArrowLeft" || event.key === "ArrowRight") enlarge(KEYS[event.key]);
    else if (event.key === "z" || event.key === "Z") dialog.close();
    return;
  }
  const isControl = event.target.closest("button, a") !== null;
  if (event.key in KEYS) choose(KEYS[event.key]);
  else if (event.key === "Enter" && !isControl) next();
  else if (event.key === "b" || event.key === "B") leave(form.dataset.back);
  else if (event.key === "z" || event.key === "Z") enlarge("left");
  else return;
  event.preventDefault();
});

form.addEventListener("change", (event) => {
  unsaved.set(event.target.name, event.target.value);
  flush();
  mark();
});

form.addEventListener("submit", (event) => {
  event.preventDefault();
  if (event.submitter?.value === "back") leave(form.dataset.back);
  else next();
});

for (const link of document.querySelectorAll("[data-enlarge]")) {
  link.addEventListener("click", (event) => {
    event.preventDefault();
    enlarge(link.dataset.enlarge);
  });
}
dialog.querySelector("button").addEventListener("click", () => dialog.close());
dialog.querySelector("img").addEventListener("click", () => dialog.close());
document.addEventListener("focusin", mark);
window.addEventListener("beforeunload", (event) => {
  if (unsaved.size > 0) event.preventDefault();
});
// A page from the browser's cache may show outdated answers.
window.addEventListener("pageshow", (event) => {
  if (event.persisted) window.location.reload();
});
form.noValidate = true; // this script names the first unanswered question itself
mark();

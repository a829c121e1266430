"use strict";

const byId = (id) => document.getElementById(id);
const form = byId("settings");
const compare = byId("compare");
let running = null; // the AbortController of the current request

// Settings and links. The body of a request and the query of a link have the same format.

function settings() {
  const pairs = new URLSearchParams();
  const lines = form.elements.prompt.value.split(/\r?\n/).map((line) => line.trim()).filter(Boolean);
  for (const line of lines.length ? lines : [""]) pairs.append("prompt", line);
  for (const name of ["seed", "size"]) pairs.append(name, form.elements[name].value.trim());
  for (const side of chosenSides()) {
    const prefix = side.dataset.prefix;
    pairs.append(prefix + "run", side.dataset.run);
    for (const box of boxes(side)) if (box.checked) pairs.append(box.name, box.value);
    for (const name of ["steps", "sampler", "guidance", "decoder"]) {
      pairs.append(prefix + name, form.elements[prefix + name].value);
    }
  }
  return pairs.toString();
}

function chosenSides() {
  return [...document.querySelectorAll(".side")].filter((side) => !side.dataset.prefix || compare.checked);
}

function boxes(side) {
  return [...side.querySelectorAll("[role=group] input")];
}

function isValid() {
  for (const side of chosenSides()) {
    const all = boxes(side);
    all[0].setCustomValidity(all.some((box) => box.checked) ? "" : "Choose at least one width.");
  }
  return form.reportValidity();
}

function applyCompare() {
  const side = compare.closest("fieldset");
  side.classList.toggle("off", !compare.checked);
  for (const element of side.querySelectorAll("input, select")) element.disabled = element !== compare && !compare.checked;
}

// Sampling

async function sample(event) {
  event.preventDefault();
  if (running || !isValid()) return;
  const body = settings();
  history.replaceState(null, "", "/?" + body);
  byId("rows").replaceChildren();
  byId("commands").hidden = true;
  byId("noise").hidden = true;
  byId("error").textContent = "";
  running = new AbortController();
  showRunning(true);
  say("Sending the request.");
  let last = {};
  try {
    const response = await fetch("/sample", {
      method: "POST", body, signal: running.signal, headers: { "Content-Type": "application/x-www-form-urlencoded" },
    });
    if (!response.ok) throw new Error((await response.text()) || `The server answered with status ${response.status}.`);
    for await (const item of readLines(response.body)) {
      last = item;
      handlers[item.event](item);
    }
    if (last.event !== "done" && last.event !== "error") throw new Error("The playground was stopped.");
    say(last.event === "done" ? "Done." : "");
  } catch (error) {
    say(error.name === "AbortError" ? "Canceled." : "");
    if (error.name === "TypeError") fail("The playground does not respond. Is it still running?");
    else if (error.name !== "AbortError") fail(error.message);
  } finally {
    running = null;
    showRunning(false);
  }
}

async function* readLines(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) yield JSON.parse(line);
  }
}

const handlers = {
  waiting: ({ ahead }) => say(ahead ? `Waiting: ${ahead} request${ahead > 1 ? "s" : ""} ahead.` : "Starting."),
  loading: ({ run }) => say(`Loading ${run}.`),
  step: ({ step, steps, left, run, width }) => {
    byId("bar").max = steps;
    byId("bar").value = step;
    say("");
    byId("step").textContent = `${run} at ${width}x: step ${step} of ${steps}${left === null ? "" : `, about ${seconds(left)} left`}`;
  },
  pictures: ({ side, pictures }) => {
    byId("results").hidden = false;
    byId("times").hidden = pictures.length === 1;
    for (const [index, picture] of pictures.entries()) {
      row(index, picture.settings.text).append(figure(picture, side));
      addToGallery(picture);
    }
  },
  done: ({ commands, same_noise }) => {
    byId("command-lines").textContent = commands.join("\n");
    byId("commands").hidden = false;
    byId("noise").hidden = same_noise;
  },
  error: ({ text }) => fail(text),
};

function row(index, prompt) {
  const rows = byId("rows");
  if (!rows.children[index]) {
    const section = element("section", "");
    section.append(element("h3", prompt || "(no prompt)"), element("div", "", "row"));
    rows.append(section);
  }
  return rows.children[index].lastElementChild;
}

function figure(picture, side) {
  const { settings: own } = picture;
  const caption = element("figcaption", "");
  caption.append(element("strong", `${own.width}x`), ` in ${seconds(picture.seconds)}`);
  if (chosenSides().length > 1) caption.append(element("br", ""), own.run);
  const result = element("figure", "");
  result.append(linkedImage(picture), caption);
  return result;
}

// Gallery

function addToGallery(picture) {
  const { settings: own } = picture;
  const caption = element("figcaption", "");
  const details = [own.run, `${own.width}x`, `${own.steps} steps`, own.sampler, `guidance ${own.guidance}`,
    `seed ${own.seed}`, own.size.join("x"), own.decoder, seconds(picture.seconds)];
  const restore = element("a", "Restore settings");
  restore.href = "/?" + picture.query;
  caption.append(element("strong", own.text || "(no prompt)"), element("br", ""), details.filter(Boolean).join(", "),
    element("br", ""), restore);
  const result = element("figure", "");
  result.append(linkedImage(picture), caption);
  byId("pictures").prepend(result);
  byId("gallery").hidden = false;
}

function linkedImage({ settings: own }) {
  const image = element("img", "");
  image.loading = "lazy";
  image.alt = `${own.text || "no prompt"}, ${own.width}x`;
  [image.height, image.width] = own.size;
  image.src = "/images/" + own.file_name;
  const link = element("a", "");
  link.href = image.src;
  link.append(image);
  return link;
}

async function loadGallery() {
  const response = await fetch("/gallery");
  if (response.ok) (await response.json()).forEach(addToGallery);
}

// Helpers

function element(name, text, className = "") {
  const result = document.createElement(name);
  result.textContent = text;
  if (className) result.className = className;
  return result;
}

function seconds(value) {
  if (value >= 90) return `${Math.round(value / 60)} min`;
  return value >= 10 ? `${value.toFixed(0)} s` : `${value.toFixed(value < 1 ? 2 : 1)} s`;
}

function say(text) {
  byId("status").textContent = text;
}

function fail(text) {
  byId("error").textContent = text;
}

function showRunning(is) {
  byId("sample").disabled = is;
  byId("cancel").disabled = !is;
  byId("bar").hidden = !is;
  byId("bar").removeAttribute("value");
  byId("step").textContent = "";
}

async function copyLink() {
  if (!isValid()) return;
  const link = location.origin + "/?" + settings();
  history.replaceState(null, "", link);
  try {
    await navigator.clipboard.writeText(link);
    say("Link copied.");
  } catch {
    say("The link is in the address bar.");
  }
}

form.addEventListener("submit", sample);
form.addEventListener("input", () => document.querySelectorAll("[role=group] input").forEach((box) => box.setCustomValidity("")));
form.elements.prompt.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
});
byId("cancel").addEventListener("click", () => running?.abort());
byId("link").addEventListener("click", copyLink);
byId("reseed").addEventListener("click", () => {
  form.elements.seed.value = crypto.getRandomValues(new Uint32Array(1))[0];
});
if (compare) {
  compare.addEventListener("change", applyCompare);
  applyCompare();
}
loadGallery();

"use strict";

// What a person can press, and the marks that are kept.

// --- marks ---------------------------------------------------------------------------------------

// They stay in the browser, and go into a file for whoever corrects.
const MARKS = `gallery ${location.pathname}`;
const marks = new Set(storedMarks());

function storedMarks() {
  try {
    return JSON.parse(localStorage.getItem(MARKS) ?? "[]").filter((id) => byId.has(id));
  } catch {
    return []; // a browser may keep nothing of pages from disk
  }
}

function toggleMark() {
  if (!byId.has(view.image)) return;
  if (!marks.delete(view.image)) marks.add(view.image);
  try {
    localStorage.setItem(MARKS, JSON.stringify([...marks]));
  } catch {
    // then they last as long as the page
  }
  show();
}

/** A text file with an id on each line, in the order of the data set. */
function saveMarks() {
  const ids = data.images.map((image) => image.id).filter((id) => marks.has(id));
  const url = URL.createObjectURL(new Blob([ids.join("\n") + "\n"], { type: "text/plain" }));
  make("a", { href: url, download: "needs_correction.txt" }).click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}

// --- controls ------------------------------------------------------------------------------------

function show() {
  writeAddress();
  fillControls();
  fillList();
  writeAddress();
  showImage();
}

function fillControls() {
  document.body.classList.toggle("comparing", Boolean(view.compare));
  fillRun($("run-a"), runOf(view.run));
  $("run-b").hidden = !view.compare;
  if (view.compare) fillRun($("run-b"), runOf(view.compare));
  for (const id of ["split", "class", "sort", "find", "opacity"]) {
    if ($(id).value !== view[id]) $(id).value = view[id];
  }
  for (const id of ["errors", "marked"]) $(id).checked = Boolean(view[id]);
  $("compare").checked = Boolean(view.compare);
  for (const order of ["loss", "gain"]) {
    $("sort").querySelector(`[value=${order}]`).hidden = !view.compare;
  }
  $("opacity-shown").textContent = `${view.opacity} %`;
  document.documentElement.style.setProperty("--overlay", view.opacity / 100);
  $("save").disabled = !marks.size;
  $("save").textContent = marks.size ? `save marked (${marks.size})` : "save marked";
}

/** Choices of one run; what there is only one of needs no choice. */
function fillRun(element, run) {
  for (const key of ["variant", "seed"]) {
    const select = element.querySelector(`[data-part=${key}]`);
    const choices = [...new Set(data.runs.map((other) => String(other[key])))];
    select.parentElement.hidden = choices.length < 2;
    select.replaceChildren(...choices.map((choice) => make("option", {}, choice)));
    select.value = String(run[key]);
  }
  const slider = element.querySelector("[data-part=stage]");
  const series = data.runs.filter((other) => sameSeries(other, run));
  slider.max = Math.max(...series.map((other) => other.stage));
  slider.value = run.stage;
  slider.parentElement.hidden = slider.max === "0";
  slider.nextElementSibling.textContent = run.stage;
}

/** A run with something changed; a variant with fewer stages is shown at its last one. */
function changedRun(name, change) {
  const wanted = { ...runOf(name), ...change };
  const series = data.runs.filter((run) => sameSeries(run, wanted));
  const run = series.find((other) => other.stage === wanted.stage) ?? series.at(-1);
  return run ? nameOf(run) : name;
}

function toggleCompare() {
  if (view.compare) {
    return look({ compare: "", sort: ["loss", "gain"].includes(view.sort) ? "name" : view.sort });
  }
  const run = runOf(view.run);
  const before = data.runs.find((other) => sameSeries(other, run) && other.stage === run.stage - 1);
  look({ compare: nameOf(before ?? data.runs.find((other) => other !== run)) });
}

function step(by) {
  const place = listed.findIndex((image) => image.id === view.image) + by;
  if (listed[place]) look({ image: listed[place].id });
}

function stepStage(by, key = "run") {
  const run = runOf(view[key]);
  const there = data.runs.some((other) => sameSeries(other, run) && other.stage === run.stage + by);
  if (there) look({ [key]: changedRun(view[key], { stage: run.stage + by }) });
}

function nextCam() {
  const buttons = [...$("cam-classes").children];
  const place = buttons.findIndex((button) => button.getAttribute("aria-pressed") === "true");
  if (buttons.length) look({ cam: buttons[(place + 1) % buttons.length].dataset.cam });
  else look({ layer: "cam" });
}

let opacityBefore = "60";

function toggleOpacity() {
  if (view.opacity !== "0") opacityBefore = view.opacity;
  look({ opacity: view.opacity === "0" ? opacityBefore : "0" });
}

const KEYS = {
  ArrowRight: () => step(1),
  ArrowLeft: () => step(-1),
  ArrowUp: (event) => stepStage(1, event.shiftKey && view.compare ? "compare" : "run"),
  ArrowDown: (event) => stepStage(-1, event.shiftKey && view.compare ? "compare" : "run"),
  " ": toggleOpacity,
  b: toggleCompare,
  c: nextCam,
  e: () => look({ errors: view.errors ? "" : "1" }),
  x: toggleMark,
  "/": () => $("find").focus(),
  "?": () => $("help").showModal(),
};

function onKey(event) {
  const inField = event.target.closest("select, input:not([type=checkbox])");
  if (event.key === "Escape" && inField) return event.target.blur();
  if (inField || event.ctrlKey || event.metaKey || event.altKey || $("help").open) return;
  if (event.key === " " && event.target.closest("button, input")) return; // it presses that
  if (/^[1-9]$/.test(event.key)) {
    $("layers").children[event.key - 1]?.click();
  } else if (KEYS[event.key]) {
    event.preventDefault();
    KEYS[event.key](event);
  }
}

function listen() {
  for (const id of ["split", "class", "sort"]) {
    $(id).addEventListener("change", () => look({ [id]: $(id).value }));
  }
  for (const id of ["find", "opacity"]) {
    $(id).addEventListener("input", () => look({ [id]: $(id).value }));
  }
  for (const id of ["errors", "marked"]) {
    $(id).addEventListener("change", () => look({ [id]: $(id).checked ? "1" : "" }));
  }
  for (const [id, key] of [["run-a", "run"], ["run-b", "compare"]]) {
    const choose = ({ target }) => {
      const value = target.dataset.part === "variant" ? target.value : Number(target.value);
      look({ [key]: changedRun(view[key], { [target.dataset.part]: value }) });
    };
    $(id).addEventListener("change", choose);
    $(id).addEventListener("input", choose); // while the stage is being pulled
  }
  const clicks = {
    previous: () => step(-1), next: () => step(1), mark: toggleMark, save: saveMarks,
    compare: toggleCompare, "help-button": () => $("help").showModal(),
  };
  for (const [id, action] of Object.entries(clicks)) $(id).addEventListener("click", action);
  for (const [id, key] of [["list", "image"], ["layers", "layer"], ["cam-classes", "cam"]]) {
    $(id).addEventListener("click", (event) => {
      const button = event.target.closest("button");
      if (button) look({ [key]: button.dataset[key] });
    });
  }
  giveKeysBack();
  document.addEventListener("keydown", onKey);
  addEventListener("hashchange", () => {
    readAddress();
    show();
  });
}

/** After a choice with the mouse the arrow keys step through images again. */
function giveKeysBack() {
  let pointed = false;
  document.addEventListener("pointerdown", () => (pointed = true), true);
  document.addEventListener("keydown", () => (pointed = false), true);
  document.addEventListener("change", ({ target }) => {
    if (pointed && target.matches("select, [type=range]")) target.blur();
  });
}

function fillClasses() {
  data.classes.forEach((name, id) => {
    const count = data.images.filter((image) => image.classes.includes(id)).length;
    if (count) $("class").append(make("option", { value: String(id) }, `${name} (${count})`));
  });
}

/** What nothing is known of is not offered. */
function hideWhatIsNot() {
  const any = (test) => data.images.some(test);
  $("errors").parentElement.hidden = !any((image) => image.truth);
  for (const [order, key] of [["worst", "scores"], ["certain", "confidence"]]) {
    const known = any((image) => Object.keys(image[key]).length);
    $("sort").querySelector(`[value=${order}]`).hidden = !known;
  }
  $("compare").parentElement.hidden = data.runs.length < 2;
}

fillClasses();
fillScale();
hideWhatIsNot();
readAddress();
listen();
show();

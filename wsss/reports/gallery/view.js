"use strict";

// What is looked at, and in which order the images stand.

const byId = new Map(data.images.map((image) => [image.id, image]));
const $ = (id) => document.getElementById(id);

// --- the address ---------------------------------------------------------------------------------

const lastRun = data.runs.filter((run) => sameSeries(run, data.runs[0])).at(-1);
const DEFAULTS = {
  image: "", layer: "crf", cam: "", errors: "", opacity: "60",
  run: nameOf(lastRun), compare: "",
  split: "", class: "", sort: "name", find: "", marked: "",
};
const view = { ...DEFAULTS };

function nameOf(run) {
  return `${run.variant}/${run.seed}/${run.stage}`;
}

function runOf(name) {
  return data.runs.find((run) => nameOf(run) === name);
}

/** Whether two runs are stages of the same variant and seed. */
function sameSeries(a, b) {
  return a.variant === b.variant && a.seed === b.seed;
}

/** What is not in this gallery, as in an address of another one, is as by default. */
function readAddress() {
  const given = new URLSearchParams(location.hash.slice(1));
  for (const key of Object.keys(DEFAULTS)) view[key] = given.get(key) ?? DEFAULTS[key];
  if (!runOf(view.run)) view.run = DEFAULTS.run;
  if (!runOf(view.compare)) view.compare = "";
  if (!ORDERS[view.sort]) view.sort = DEFAULTS.sort;
}

function writeAddress() {
  const changed = Object.entries(view).filter(([key, value]) => value !== DEFAULTS[key]);
  const hash = `#${new URLSearchParams(changed)}`;
  if (hash !== location.hash) history.replaceState(null, "", hash);
}

/** The one way to look at something else. */
function look(changes) {
  Object.assign(view, changes);
  show();
}

// --- scores --------------------------------------------------------------------------------------

/** [mean IoU, IoU by class] of a layer of an image, by default of what the run ends with. */
function scoresOf(image, run, layer) {
  for (const name of [layer, ...FINAL]) {
    const scores = image.scores[run.layers[name]];
    if (scores) return scores;
  }
  return null;
}

/** IoU of an image, or of the chosen class in it; null where there is no ground truth. */
function iouOf(image, run) {
  const scores = scoresOf(image, run);
  if (!scores) return null;
  return (view.class ? scores[1][view.class] : scores[0]) ?? null;
}

function certaintyOf(image, run, name = "confidence") {
  return image[name][run.layers.crf] ?? null;
}

function differenceOf(image) {
  const [a, b] = [iouOf(image, runOf(view.run)), view.compare && iouOf(image, runOf(view.compare))];
  return typeof a === "number" && typeof b === "number" ? b - a : null;
}

// --- the order of images -------------------------------------------------------------------------

// What each order sorts by, least first; `text` is how the list shows it, `bar` its length.
const percent = (value) => value.toFixed(1);
const BY_IOU = {
  of: (image) => iouOf(image, runOf(view.run)),
  text: percent,
  bar: (value) => value,
};
const ORDERS = {
  name: { ...BY_IOU, sorted: false },
  worst: BY_IOU,
  certain: {
    of: (image) => certaintyOf(image, runOf(view.run)),
    text: (value) => value.toFixed(2),
    bar: (value) => 100 * value,
  },
  loss: { of: differenceOf, text: signed, bar: Math.abs },
  gain: { of: differenceOf, text: signed, bar: Math.abs, descending: true },
};
let listed = [];
let listedFor = "";

function signed(value) {
  return (value > 0 ? "+" : "") + value.toFixed(1);
}

function chosenImages() {
  const wanted = data.images.filter(
    (image) =>
      (!view.split || image.split === view.split) &&
      (!view.class || image.classes.includes(Number(view.class))) &&
      (!view.marked || marks.has(image.id)) &&
      image.id.toLowerCase().includes(view.find.toLowerCase()),
  );
  const order = ORDERS[view.sort];
  if (order.sorted === false) return wanted;
  const values = new Map(wanted.map((image) => [image, order.of(image)]));
  const sign = order.descending ? -1 : 1;
  const rank = (image) => (values.get(image) === null ? Infinity : sign * values.get(image));
  return wanted.sort((a, b) => (rank(a) === rank(b) ? 0 : rank(a) - rank(b)));
}

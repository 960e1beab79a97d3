"use strict";

// The layers that can lie over a photograph: where their values come from, how they are painted.
//
// `data.js` has set `data`: classes, colours, runs, and a row for each image. The maps of an image
// come in a script of their own, which calls `receive`: a page that was opened from disk may not
// fetch files, but it may load scripts.

// In the order in which the pipeline makes them; `paint` draws values of one kind.
const LAYERS = {
  input: { caption: "photograph" },
  cam: { caption: "CAM", paint: paintHeat, grey: true },
  saliency: { caption: "saliency", paint: paintSaliency },
  refined_saliency: { caption: "refined saliency", paint: paintSaliency },
  saliency_target: { caption: "saliency label", paint: paintSaliency },
  pseudo_label: { caption: "pseudo label", paint: paintLabels, labels: true },
  unrefined: { caption: "unrefined", paint: paintLabels, labels: true },
  refined: { caption: "refined", paint: paintLabels, labels: true },
  merged: { caption: "merged", paint: paintLabels, labels: true },
  crf: { caption: "CRF", paint: paintLabels, labels: true },
  truth: { caption: "ground truth", paint: paintLabels, labels: true },
};
// Which of them stands for an image in the list, or takes the place of one that it does not have.
const FINAL = [
  "crf", "merged", "refined", "unrefined", "pseudo_label", "truth", "saliency", "input",
];
const IGNORED = 255;
const ERRORS = [
  { name: "missed", title: "an object taken for background", colour: [0, 114, 255] },
  { name: "invented", title: "background taken for an object", colour: [255, 145, 0] },
  { name: "wrong class", title: "an object taken for another", colour: [222, 0, 170] },
  { name: "left open (255)", title: "no class was given", colour: data.ignored[1] },
];
const KEPT = 40; // images whose maps stay in memory

// --- maps of an image ----------------------------------------------------------------------------

const waiting = new Map(); // id -> what to call with its maps
const maps = new Map(); // id -> promise of its maps, by the number of their layer

function fileOf(image, suffix) {
  return `images/${encodeURIComponent(image.id)}.${suffix}`;
}

/** What the script of an image calls; the values of all its maps lie one after the other. */
async function receive(id, parts, packed) {
  const bytes = Uint8Array.from(atob(packed), (character) => character.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  const values = new Uint8Array(await new Response(stream).arrayBuffer());
  let start = 0;
  for (const part of parts) {
    const length = part.shape.reduce((product, side) => product * side, 1);
    part.values = values.subarray(start, start + length);
    start += length;
  }
  waiting.get(id)?.(new Map(parts.map((part) => [part.key, part])));
}

function mapsOf(image) {
  if (!maps.has(image.id)) {
    if (maps.size >= KEPT) maps.delete(maps.keys().next().value);
    maps.set(image.id, new Promise((resolve, reject) => {
      waiting.set(image.id, resolve);
      const script = make("script", { src: fileOf(image, "js") });
      script.onload = () => script.remove();
      script.onerror = () => {
        maps.delete(image.id);
        const file = fileOf(image, "js");
        reject(new Error(`${file} is missing: copy the folder of this page as a whole`));
      };
      document.head.append(script);
    }));
  }
  return maps.get(image.id);
}

/** The map of a layer of a run, if the image has it; a CAM as that of the chosen class. */
function partOf(found, run, layer) {
  const part = found.get(layer === "truth" ? "truth" : run.layers[layer]);
  return part && layer === "cam" ? camOf(part) : part;
}

/** One map of several: that of the chosen class, or the largest value of all. */
function camOf(part) {
  const [count, height, width] = part.shape;
  const size = height * width;
  const which = part.classes.indexOf(Number(view.cam));
  const one = (k) => part.values.subarray(k * size, (k + 1) * size);
  if (which >= 0) return { ...part, shape: [height, width], values: one(which) };
  const values = one(0).slice();
  for (let k = 1; k < count; k++) {
    one(k).forEach((value, i) => (values[i] = Math.max(values[i], value)));
  }
  return { ...part, shape: [height, width], values };
}

/** The chosen layer, or what stands for it where the image does not have it. */
function shownLayer(found, run) {
  return [view.layer, ...FINAL].find((layer) => layer === "input" || partOf(found, run, layer));
}

// --- painting ------------------------------------------------------------------------------------

const rgba = (red, green, blue, alpha = 255) =>
  ((alpha << 24) | (blue << 16) | (green << 8) | red) >>> 0;
const CLASS_COLOURS = data.colours.map((colour) => rgba(...colour));
CLASS_COLOURS[0] = 0; // background is what lies below
const HATCHING = data.ignored.map((colour) => rgba(...colour));
const HEAT = data.heat.map((colour) => rgba(...colour));
const ERROR_COLOURS = ERRORS.map(({ colour }) => rgba(...colour));

/** Set each pixel of a canvas to what `colour` says of its number. */
function paint(canvas, [height, width], colour) {
  Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d");
  const image = context.createImageData(width, height);
  const pixels = new Uint32Array(image.data.buffer);
  for (let i = 0; i < pixels.length; i++) pixels[i] = colour(i);
  context.putImageData(image, 0, 0);
}

function hatched(i, width) {
  return HATCHING[((i % width) + Math.floor(i / width)) % 8 < 2 ? 1 : 0];
}

function paintLabels(canvas, { shape, values }) {
  paint(canvas, shape, (i) =>
    values[i] === IGNORED ? hatched(i, shape[1]) : CLASS_COLOURS[values[i]],
  );
}

function paintHeat(canvas, { shape, values }) {
  paint(canvas, shape, (i) => HEAT[values[i]]);
}

/** Dark where nothing is salient. */
function paintSaliency(canvas, { shape, values }) {
  paint(canvas, shape, (i) => rgba(0, 0, 0, 255 - values[i]));
}

/** Which of ERRORS a label is, or -1 where it is none or nobody knows. */
function errorOf(label, truth) {
  if (label === truth || truth === IGNORED) return -1;
  if (label === IGNORED) return 3;
  if (label === 0) return 0;
  return truth === 0 ? 1 : 2;
}

function paintErrors(canvas, { shape, values }, truth) {
  paint(canvas, shape, (i) => {
    const error = errorOf(values[i], truth.values[i]);
    if (error === 3) return hatched(i, shape[1]);
    return error < 0 ? 0 : ERROR_COLOURS[error];
  });
}

/** Whether a layer is shown as its differences to the ground truth. */
function asErrors(layer, found) {
  return Boolean(view.errors && LAYERS[layer].labels && layer !== "truth" && found.has("truth"));
}

/** A photograph with a layer over it. */
function picture(image, found, run, layer) {
  const element = make("div", { className: "picture" });
  element.style.setProperty("--ratio", image.size[0] / image.size[1]);
  element.append(make("img", { src: fileOf(image, "jpg"), alt: "" }));
  const part = partOf(found, run, layer);
  if (!part) return element;
  const canvas = make("canvas");
  element.classList.toggle("grey", Boolean(LAYERS[layer].grey));
  canvas.classList.toggle("exact", Boolean(LAYERS[layer].labels));
  if (asErrors(layer, found)) paintErrors(canvas, part, found.get("truth"));
  else LAYERS[layer].paint(canvas, part);
  element.append(canvas);
  return element;
}

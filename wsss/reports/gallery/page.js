"use strict";

// The list of images, the chosen image with its layers, and the legend.

// --- the list ------------------------------------------------------------------------------------

function fillList() {
  const { split, sort, find, marked, run, compare } = view;
  const needed = JSON.stringify([split, view.class, sort, find, marked, run, compare, [...marks]]);
  if (needed !== listedFor) {
    listedFor = needed;
    listed = chosenImages();
    $("list").replaceChildren(...listed.map(listItem));
    $("count").textContent = countText();
  }
  if (!listed.some((image) => image.id === view.image)) view.image = listed[0]?.id ?? "";
  $("list").querySelector("[aria-current]")?.removeAttribute("aria-current");
  const current = $("list").querySelector(`[data-image="${CSS.escape(view.image)}"]`);
  current?.setAttribute("aria-current", "true");
  if (current) reveal(current);
}

/** Scroll the list, and never the page around it, to one of its images. */
function reveal(item) {
  const [box, frame] = [item.getBoundingClientRect(), $("list").getBoundingClientRect()];
  if (box.top < frame.top || box.bottom > frame.bottom) {
    $("list").scrollTop += box.top - frame.top - (frame.height - box.height) / 2;
  }
  if (box.left < frame.left || box.right > frame.right) {
    $("list").scrollLeft += box.left - frame.left - (frame.width - box.width) / 2;
  }
}

function countText() {
  const all = Object.entries(data.of).reduce((sum, [split, count]) => {
    return sum + (!view.split || view.split === split ? count : 0);
  }, 0);
  const there = data.images.filter((image) => !view.split || image.split === view.split).length;
  const sample = there < all ? ` · ${there} of ${all} are in this gallery` : "";
  return `${listed.length} ${listed.length === 1 ? "image" : "images"}${sample}`;
}

function listItem(image) {
  const order = ORDERS[view.sort];
  const value = order.of(image);
  const button = make("button", { type: "button", title: image.id });
  button.dataset.image = image.id;
  button.classList.toggle("marked", marks.has(image.id));
  const bar = make("span", { className: "bar" }, make("i"));
  bar.firstChild.style.width = `${value === null ? 0 : order.bar(value)}%`;
  button.append(
    make("img", { src: fileOf(image, "jpg"), loading: "lazy", alt: "" }),
    make("span", { className: "id" }, image.id),
    make("span", { className: "value" }, value === null ? "" : order.text(value)),
    bar,
  );
  return make("li", {}, button);
}

function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

// --- the image -----------------------------------------------------------------------------------

async function showImage() {
  const image = byId.get(view.image);
  $("name").textContent = image ? image.id : "no image";
  $("mark").setAttribute("aria-pressed", String(Boolean(image && marks.has(image.id))));
  $("mark").disabled = !image;
  if (!image) return clearImage();
  let found = new Map();
  try {
    found = await mapsOf(image);
    $("message").hidden = true;
  } catch (error) {
    $("message").textContent = error.message;
    $("message").hidden = false;
  }
  if (view.image !== image.id) return; // another one was asked for meanwhile
  const runs = [view.run, view.compare].filter(Boolean).map(runOf);
  const layer = shownLayer(found, runs[0]);
  $("panes").replaceChildren(...runs.map((run, number) => {
    return pane(image, found, run, layer, runs.length > 1 ? "AB"[number] : "");
  }));
  $("layers").replaceChildren(...tiles(image, found, runs[0], layer));
  $("cam-classes").replaceChildren(...(layer === "cam" ? camButtons(found, runs[0]) : []));
  showFacts(image, runs);
  showLegend(image, found, runs, layer);
  loadNeighbours();
}

function clearImage() {
  for (const id of ["panes", "layers", "cam-classes", "legend", "facts"]) $(id).replaceChildren();
}

/** The large picture of a run; `side` is its letter where there are two. */
function pane(image, found, run, layer, side) {
  const figure = make("figure");
  figure.style.setProperty("--ratio", image.size[0] / image.size[1]);
  const shown = picture(image, found, run, layer);
  if (layer !== "input" && !partOf(found, run, layer)) {
    shown.append(make("span", { className: "none" }, `no ${LAYERS[layer].caption} in this run`));
  }
  const words = [...(side ? [side] : []), LAYERS[layer].caption];
  if (layer !== "truth" && layer !== "input") words.push(...titleOf(run));
  const caption = make("figcaption", {}, make("span", {}, words.join(" · ")));
  const iou = ownIou(image, run, layer);
  if (iou !== null) caption.append(make("span", {}, "IoU ", make("b", {}, percent(iou))));
  figure.append(shown, caption);
  shown.addEventListener("pointermove", (event) => showPixel(event, shown, found, run, layer));
  shown.addEventListener("pointerleave", () => $("pixel").replaceChildren());
  return figure;
}

/** Mean IoU of a layer itself, or null where it has none. */
function ownIou(image, run, layer) {
  return image.scores[run.layers[layer]]?.[0] ?? null;
}

/** What tells a run from the others that there are. */
function titleOf(run) {
  const several = (key) => data.runs.some((other) => other[key] !== run[key]);
  return [
    ...(several("variant") ? [run.variant] : []),
    ...(several("seed") ? [`seed ${run.seed}`] : []),
    `stage ${run.stage}`,
  ];
}

/** Layers that an image has in a run. */
function layersOf(found, run) {
  return Object.keys(LAYERS).filter((layer) => layer === "input" || partOf(found, run, layer));
}

function tiles(image, found, run, chosen) {
  return layersOf(found, run).map((layer, number) => {
    const { caption } = LAYERS[layer];
    const iou = ownIou(image, run, layer);
    const button = make("button", { type: "button", title: `${caption} (${number + 1})` });
    button.dataset.layer = layer;
    button.setAttribute("aria-pressed", String(layer === chosen));
    const small = picture(image, found, run, layer);
    if (iou !== null) small.append(make("b", {}, percent(iou)));
    button.append(small, make("span", { className: "caption" }, caption));
    return button;
  });
}

function camButtons(found, run) {
  const { classes } = found.get(run.layers.cam);
  const chosen = classes.includes(Number(view.cam)) ? view.cam : "";
  return ["", ...classes.map(String)].map((id) => {
    const button = make("button", { type: "button" }, id ? data.classes[id] : "all classes");
    button.dataset.cam = id;
    button.setAttribute("aria-pressed", String(id === chosen));
    return button;
  });
}

function showFacts(image, runs) {
  const lines = [
    [make("b", {}, image.split), ` · ${listed.indexOf(image) + 1} of ${listed.length}`],
    [`image-level labels: ${image.labels.map((id) => data.classes[id]).join(", ") || "none"}`],
  ];
  runs.forEach((run, number) => {
    const side = runs.length > 1 ? `${"AB"[number]}: ` : "";
    const confidence = certaintyOf(image, run);
    const uncertain = certaintyOf(image, run, "uncertain");
    const words = [];
    if (confidence !== null) words.push(`confidence ${confidence.toFixed(2)}`);
    if (uncertain !== null) words.push(`${percent(100 * uncertain)} % of pixels uncertain`);
    if (words.length) lines.push([side + words.join(", ")]);
  });
  if (!image.truth) lines.push(["no ground truth"]);
  $("facts").replaceChildren(...lines.flatMap((line) => [...line, make("br")]));
}

function loadNeighbours() {
  const place = listed.findIndex((image) => image.id === view.image);
  for (const image of [listed[place + 1], listed[place - 1]]) {
    if (image) mapsOf(image).catch(() => {}); // it is said when the image is looked at
  }
}

// --- legend and pixels ---------------------------------------------------------------------------

function showLegend(image, found, runs, layer) {
  const rows = asErrors(layer, found)
    ? errorRows(found, runs, layer)
    : classRows(image, found, runs, layer);
  $("legend").replaceChildren(...rows);
  $("scale").hidden = layer !== "cam";
}

/** The colours of heat maps, from 0 to 1. */
function fillScale() {
  const stops = data.heat.filter((_, i) => i % 15 === 0).map((colour) => `rgb(${colour})`);
  $("scale").firstElementChild.style.background = `linear-gradient(to right, ${stops})`;
}

function countsOf(values, kindOf = (value) => value) {
  const counts = new Map();
  values.forEach((value, i) => {
    const kind = kindOf(value, i);
    counts.set(kind, (counts.get(kind) ?? 0) + 1);
  });
  return counts;
}

function tableRow(cells, swatch, tag = "td") {
  const first = make(tag, { className: "swatch" });
  if (swatch) {
    first.append(make("i"));
    first.firstChild.style.background = swatch;
  }
  const rest = cells.map((cell, number) => make(tag, { className: number ? "number" : "" }, cell));
  return make("tr", {}, first, ...rest);
}

function shareText(count, total) {
  return count ? `${percent((100 * count) / total)} %` : "";
}

function errorRows(found, runs, layer) {
  const truth = found.get("truth");
  const counts = runs.map((run) => {
    const part = partOf(found, run, layer);
    return part ? countsOf(part.values, (value, i) => errorOf(value, truth.values[i])) : new Map();
  });
  const head = tableRow(["differences", ...sides(runs, "share")], "", "th");
  return [head, ...ERRORS.map(({ name, title, colour }, kind) => {
    const shares = counts.map((count) => shareText(count.get(kind), truth.values.length));
    return tableRow([make("span", { title }, name), ...shares], `rgb(${colour})`);
  })];
}

function sides(runs, word) {
  return runs.length > 1 ? runs.map((_, number) => `${word} ${"AB"[number]}`) : [word];
}

/** The classes of the ground truth, of the label map, and of what is scored. */
function classRows(image, found, runs, layer) {
  const part = LAYERS[layer].labels && partOf(found, runs[0], layer);
  const counts = part ? countsOf(part.values) : new Map();
  const withShares = part && runs.length === 1; // there is no room for those of two
  const scores = runs.map((run) => scoresOf(image, run, layer));
  const ids = new Set([...counts.keys(), ...image.labels]);
  for (const score of scores) for (const id of Object.keys(score?.[1] ?? {})) ids.add(Number(id));
  const columns = (share, ious) => [
    ...(withShares ? [share] : []), ...(scores.some(Boolean) ? ious : []),
  ];
  const head = tableRow(["class", ...columns("share", sides(runs, "IoU"))], "", "th");
  return [head, ...[...ids].sort((a, b) => a - b).map((id) => {
    const share = part ? shareText(counts.get(id), part.values.length) : "";
    const ious = scores.map((score) => score?.[1][id]?.toFixed(1) ?? "");
    return tableRow([nameCell(id), ...columns(share, ious)], swatchOf(id));
  })];
}

/** The name of a class, which leads to the images where it is worst. */
function nameCell(id) {
  if (id === 0 || id === IGNORED) return classNameOf(id);
  const button = make("button", { type: "button", title: "its worst images" }, classNameOf(id));
  button.addEventListener("click", () => look({ class: String(id), sort: "worst", image: "" }));
  return button;
}

function classNameOf(id) {
  return id === IGNORED ? "left open (255)" : data.classes[id];
}

function swatchOf(id) {
  const [light, dark] = data.ignored.map((colour) => `rgb(${colour})`);
  if (id === IGNORED) return `repeating-linear-gradient(135deg, ${dark} 0 2px, ${light} 2px 6px)`;
  return id === 0 ? "transparent" : `rgb(${data.colours[id]})`;
}

/** What all maps say of the pixel below the pointer. */
function showPixel(event, element, found, run, layer) {
  const box = element.getBoundingClientRect();
  const [x, y] = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
  const lines = [...new Set([layer, "truth"])].map((name) => pixelText(found, run, name, x, y));
  $("pixel").textContent = lines.filter(Boolean).join("\n");
}

function pixelText(found, run, layer, x, y) {
  const part = found.get(layer === "truth" ? "truth" : run.layers[layer]);
  if (!part) return "";
  const [height, width] = part.shape.slice(-2);
  const at = (position, side) => Math.min(side - 1, Math.max(0, Math.floor(position * side)));
  const i = at(y, height) * width + at(x, width);
  const { caption, labels } = LAYERS[layer];
  if (labels) return `${caption}: ${classNameOf(part.values[i])}`;
  const value = (k) => (part.values[k * height * width + i] / 255).toFixed(2);
  if (!part.classes) return `${caption}: ${value(0)}`;
  const texts = part.classes.map((id, k) => `${data.classes[id]} ${value(k)}`);
  return `${caption}: ${texts.join(", ")}`;
}

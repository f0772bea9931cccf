"use strict";
// The page of `minibert explain`: draws the numbers that stand in it. No library, no network.
//
// Order: data, arrays, state, elements, colours, the seven sections as they stand on the page, charts, saving, start.
// All text, also the user's, becomes text nodes; nothing is ever parsed as markup.

// ---- data ----

const read = (id) => JSON.parse(document.getElementById(id).textContent);
const words = read("words");
const data = read("data");
const S = data.tokens.length;
const N = data.config.num_hidden_layers;
const H = data.config.num_attention_heads;
const ROWS = ["input_ids", "token_type_ids", "special_tokens_mask", "length", "attention_mask"];
const EMBEDDINGS = ["token", "position", "segment", "sum", "output"];
const texts = data.texts.map((text) => Array.from(text)); // by code points, as Python counts them
const special = data.sources.map((source) => source === null);
const all = data.tokens.map((_, i) => i);

// ---- arrays: unpacked at the start; each becomes numbers when it is first asked for ----

const unpacked = new Map();

async function unpack() {
  for (const entry of Object.values(data.arrays)) {
    const text = atob(entry.data);
    const bytes = new Uint8Array(text.length);
    for (let i = 0; i < bytes.length; i++) bytes[i] = text.charCodeAt(i);
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    entry.data = await new Response(stream).arrayBuffer();
  }
}

function array(name) {
  // {shape, values}, or null for what is not on the page.
  if (!(name in data.arrays)) return null;
  if (!unpacked.has(name)) {
    const { shape, coding, data: bytes } = data.arrays[name];
    unpacked.set(name, { shape, values: DECODE[coding](bytes, shape) });
  }
  return unpacked.get(name);
}

const DECODE = {
  f4: (bytes) => new Float32Array(bytes),
  u2: (bytes) => Float32Array.from(new Uint16Array(bytes), (code) => (code / 65535) ** 2),
  u1: (bytes) => Float32Array.from(new Uint8Array(bytes), (code) => (code / 255) ** 2),
  i1: (bytes, shape) => {
    const width = shape.at(-1);
    const rows = shape.slice(0, -1).reduce((product, n) => product * n, 1);
    const largest = new Float32Array(bytes, 0, rows);
    const codes = new Int8Array(bytes, 4 * rows);
    return Float32Array.from(codes, (code, i) => (code / 127) * largest[Math.floor(i / width)]);
  },
};

const vector = (name, i) => {
  const { shape, values } = array(name);
  return values.subarray(i * shape[1], (i + 1) * shape[1]);
};
const length = (values) => Math.sqrt(values.reduce((sum, x) => sum + x * x, 0));

function map(place) {
  // The [S, S] numbers of a head, or of the rollout, which stands in the column after the last head.
  if (place.head === H) return array(`layers.${place.layer}.rollout`).values;
  return array(`layers.${place.layer}.attention.probs`).values.subarray(place.head * S * S, (place.head + 1) * S * S);
}

// ---- state ----

const state = {
  language: navigator.language.startsWith("zh") ? "zh" : "en",
  dark: matchMedia("(prefers-color-scheme: dark)").matches,
  pinned: data.answer.position ?? Math.min(1, S - 1), // the token that stays chosen
  peeked: null, // the one under the mouse, for as long as it is there
  map: { layer: 0, head: 0 },
  special: true,
  turned: false,
  way: data.contributions.heads_ablated || data.contributions.tokens_ablated ? "ablated" : "gradient",
  tensor: "layers.0.attention.probs",
  at: [], // indices of the tensor's dimensions before the last two
  row: 0,
  column: 0,
};
const watchers = []; // functions to call when another token is chosen

const token = () => state.peeked ?? state.pinned;
function choose() {
  for (const watcher of watchers) watcher();
}
function peek(i) {
  if (i === state.peeked) return;
  state.peeked = i;
  choose();
}
function pin(i) {
  state.pinned = i;
  state.peeked = null;
  choose();
}

function t(key, values = {}) {
  return words[key][state.language].replace(/\{(\w+)\}/g, (_, name) => values[name]);
}

// ---- elements ----

function el(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "style") Object.assign(element.style, value);
    else if (value !== null && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

function draw(tag, attributes = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

const bdi = (text, attributes = {}) => el("bdi", { dir: "auto", ...attributes }, text);
const name = (i) => data.tokens[i];

function figure(caption, body, label = caption) {
  const box = el("div", { class: "body", role: "group", "aria-label": label, tabindex: "-1" }, body);
  const save = (kind) =>
    el("button", { type: "button", title: t("save", { kind }), onclick: () => saveFigure(box, kind) }, kind);
  return el("figure", {}, box, el("figcaption", {}, el("span", {}, caption), save("SVG"), save("PNG")));
}

function section(id, ...content) {
  const number = SECTIONS.findIndex(([key]) => key === id) + 1;
  const title = el("h2", {}, el("span", { class: "no", "aria-hidden": "true" }, `${number}`), t(`${id}.title`));
  const place = document.getElementById(id);
  place.setAttribute("aria-label", t(`${id}.title`));
  place.replaceChildren(title, el("p", { class: "soft" }, t(`${id}.lead`)), ...content);
}

function tokenChoice() {
  const select = el("select", { onchange: () => pin(Number(select.value)) });
  for (const i of all) select.append(el("option", { value: i }, `${i}  ${name(i)}`));
  watchers.push(() => (select.value = token()));
  return el("label", {}, t("token"), select);
}

function check(key, property, change) {
  const box = el("input", { type: "checkbox", onchange: () => ((state[property] = box.checked), change()) });
  box.checked = state[property];
  return el("label", {}, box, t(key));
}

// One of many elements is in the order of the Tab key; arrow keys move between them.
function roving(container, items, columns, onEnter = null) {
  const last = items.length - 1;
  const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns, Home: -last, End: last };
  items.forEach((item, i) => (item.tabIndex = i ? -1 : 0));
  const hold = (item) => items.forEach((other) => (other.tabIndex = other === item ? 0 : -1));
  container.addEventListener("focusin", (event) => items.includes(event.target) && hold(event.target));
  container.addEventListener("keydown", (event) => {
    const here = items.indexOf(event.target);
    if (here < 0) return;
    if (event.key in steps) {
      const next = here + steps[event.key];
      const jump = event.key === "Home" || event.key === "End";
      const to = jump ? Math.max(0, Math.min(last, next)) : next;
      if (items[to]) items[to].focus();
      event.preventDefault();
    } else if (onEnter && event.key === "Enter") {
      onEnter(here);
      event.preventDefault();
    }
  });
  return hold;
}

// Buttons for the tokens `shown`: hovering looks, clicking or moving by arrow keys chooses.
function chips(shown, fill) {
  const buttons = shown.map((i) => {
    const chip = el("button", { type: "button", class: special[i] ? "chip put" : "chip", "data-token": i }, ...fill(i));
    chip.addEventListener("click", () => pin(i));
    chip.addEventListener("focus", () => chip.matches(":focus-visible") && pin(i));
    chip.addEventListener("pointerenter", (event) => event.pointerType === "mouse" && peek(i));
    chip.addEventListener("pointerleave", () => peek(null));
    return chip;
  });
  return buttons;
}

function mark(buttons, hold) {
  // Outlines the chosen token, and lets Tab arrive there.
  const now = buttons.find((button) => Number(button.dataset.token) === token());
  for (const button of buttons) {
    button.classList.toggle("now", button === now);
    button.setAttribute("aria-pressed", button === now);
  }
  if (now) hold(now);
}

// ---- colours ----

let palette = {};

function readPalette() {
  const probe = el("span");
  document.body.append(probe);
  for (const role of ["paper", "card", "ink", "soft", "line", "blue", "orange"]) {
    probe.style.color = `var(--${role})`;
    palette[role] = getComputedStyle(probe)
      .color.match(/[\d.]+/g)
      .slice(0, 3)
      .map(Number);
  }
  probe.remove();
}

const mixed = (from, to, share) => from.map((x, k) => Math.round(x + (to[k] - x) * share));
const css = (rgb) => `rgb(${rgb.join(" ")})`;
const tint = (share) => css(mixed(palette.card, palette.blue, 0.6 * Math.min(1, share))); // text stays legible on it
const signed = (share) =>
  css(mixed(palette.card, share < 0 ? palette.orange : palette.blue, 0.65 * Math.min(1, Math.abs(share))));
const shade = (probability) => Math.min(1, probability) ** 0.4;

const number = (x, digits = 3) =>
  x === 0 ? "0" : Math.abs(x) < 10 ** -digits ? x.toExponential(0) : x.toFixed(Math.abs(x) >= 100 ? 1 : digits);
const minus = (text) => text.replace("-", "−");
const signedNumber = (x, digits) => {
  const text = x.toFixed(digits);
  return Number(text) === 0 ? "0" : (x > 0 ? "+" : "") + minus(text);
};
const digitsFor = (most) => (most >= 1 ? 2 : most >= 0.1 ? 3 : 4); // the same for all numbers of a figure
const shareText = (x) => (x < 0.0005 ? "·" : x.toFixed(x < 0.01 ? 3 : 2));
const largest = (values) => values.reduce((most, x) => Math.max(most, Math.abs(x)), 0);

// ---- 1: the text and its pieces ----

function showPieces() {
  const panel = el("div", { class: "panel", "aria-live": "polite" });
  const box = el("div", { class: "chips" });
  const buttons = [];
  const words = new Map(); // a stretch's box, by "text/stretch"
  const ends = texts.map(() => 0); // up to where the text has been shown
  const shown = texts.map(() => 0); // stretches
  const gone = (which, until) => {
    for (; shown[which] < until; shown[which]++) {
      const stretch = data.stretches[which][shown[which]];
      if (!stretch.pieces.length)
        box.append(
          el("span", { class: "chip gone", title: t("pieces.gone") }, "∅", el("small", {}, codes(which, stretch))),
        );
    }
  };
  for (const i of all) {
    const source = data.sources[i];
    const [chip] = chips([i], () => (source ? pieceOver(source, ends) : [bdi(name(i))]));
    buttons.push(chip);
    if (!source) {
      box.append(el("span", { class: "word" }, chip));
      continue;
    }
    const key = `${source[0]}/${source[1]}`;
    gone(source[0], source[1]);
    if (!words.has(key)) box.append(words.set(key, el("span", { class: "word" })).get(key));
    words.get(key).append(chip);
    shown[source[0]] = source[1] + 1;
  }
  if (!data.left_out) texts.forEach((_, which) => gone(which, data.stretches[which].length));
  else box.append(el("span", { class: "cut" }, "…"));
  const hold = roving(box, buttons, 1);
  watchers.push(() => (mark(buttons, hold), explainPiece(panel, token())));
  section("pieces", el("div", { class: "two why" }, figure(t("pieces.caption"), box), panel));
}

function pieceOver([which, stretch, piece], ends) {
  const { token, start, end } = data.stretches[which][stretch].pieces[piece];
  const source = texts[which].slice(Math.max(start, ends[which]), end).join("");
  ends[which] = Math.max(ends[which], end);
  return [el("small", {}, bdi(token)), bdi(source || "〃", { class: "source" })];
}

const codes = (which, { start, end }) =>
  texts[which]
    .slice(start, end)
    .map((char) => `U+${char.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}`)
    .join(" ");

function explainPiece(panel, i) {
  const source = data.sources[i];
  const facts = t("piece.id", { id: data.encoding.input_ids[i], position: i });
  const content = [el("h3", {}, bdi(name(i))), el("p", { class: "soft" }, facts)];
  if (!source) return panel.replaceChildren(...content, el("p", {}, t("piece.put")));
  const stretch = data.stretches[source[0]][source[1]];
  const piece = stretch.pieces[source[2]];
  const from = texts[source[0]].slice(piece.start, piece.end).join("");
  const span = t(source[0] ? "piece.span2" : "piece.span", { start: piece.start, end: piece.end });
  content.push(el("p", {}, `${span}: `, bdi(from)));
  if (stretch.special) return panel.replaceChildren(...content, el("p", {}, t("piece.special")));
  panel.replaceChildren(
    ...content,
    el("h4", {}, t("piece.steps")),
    stepsOf(source[0], stretch),
    el("h4", {}, t("piece.tried")),
    attemptsOf(stretch, piece),
  );
}

function stepsOf(which, stretch) {
  const list = el("dl", { class: "steps" });
  let before = texts[which].slice(stretch.start, stretch.end).join("");
  const add = (step, text, same) =>
    list.append(
      el("dt", {}, t(`step.${step}`)),
      el("dd", { class: same ? "same" : "", dir: "auto" }, same ? t("piece.same") : text.replaceAll(" ", "␣")),
    );
  add("source", before, false);
  for (const [step, text] of stretch.steps) {
    add(step, text, text === before);
    before = text;
  }
  add("words", stretch.words.join(" | "), false);
  return list;
}

function attemptsOf(stretch, piece) {
  if (!piece.attempts.length) return el("p", {}, t("piece.long"));
  const list = el("ul", { class: "tries" });
  piece.attempts.forEach(({ token, found }, k) => {
    if (piece.left_out && k === piece.attempts.length - 1)
      list.append(el("li", {}, t("piece.more", { count: piece.left_out })));
    const sign = el(
      "span",
      { class: "mark", role: "img", "aria-label": t(found ? "piece.found" : "piece.absent") },
      found ? "✓" : "×",
    );
    list.append(el("li", { class: found ? "yes" : "" }, sign, bdi(token)));
  });
  return piece.attempts.at(-1).found ? list : el("div", {}, list, el("p", {}, t("piece.unknown")));
}

// ---- 2: the encoding ----

function showEncoding() {
  const row = (title, cells) => el("tr", {}, el("th", { scope: "row" }, title), ...cells);
  const head = all.map((i) => el("th", { scope: "col", "data-token": i }, bdi(name(i))));
  const body = ROWS.map((key) =>
    row(
      key,
      data.encoding[key].map((value) => el("td", {}, `${value}`)),
    ),
  );
  const table = el("table", {}, el("thead", {}, row("tokens", head)), el("tbody", {}, ...body));
  table.querySelector("thead th").replaceChildren("tokens");
  head.forEach((cell, i) => cell.addEventListener("click", () => pin(i)));
  watchers.push(() => head.forEach((cell, i) => cell.classList.toggle("now", i === token())));
  const shown = figure(t("encoding.caption"), table);
  shown.firstChild.tabIndex = 0; // scrolls by keyboard
  section("encoding", shown);
}

// ---- 3: embeddings ----

function showEmbeddings() {
  const box = el("div", { class: "strips" });
  watchers.push(() => box.replaceChildren(...stripsOf(token())));
  const lines = EMBEDDINGS.map((part) => all.map((i) => length(partOf(part, i))));
  const colours = ["blue", "soft", "soft", "ink", "orange"];
  const dashes = ["none", "none", "5 5", "none", "none"];
  const legend = el("div", { class: "legend" });
  EMBEDDINGS.forEach((part, k) =>
    legend.append(
      el(
        "span",
        {},
        el("i", { style: { borderTop: `3px ${dashes[k] === "none" ? "solid" : "dashed"} var(--${colours[k]})` } }),
        t(`embeddings.${part}`),
      ),
    ),
  );
  const chart = lineChart(lines, all.map(name), {
    kinds: colours.map((colour, k) => ({
      class: "solid",
      style: `stroke: var(--${colour}); stroke-dasharray: ${dashes[k]}`,
    })),
    here: true,
  });
  section(
    "embeddings",
    el("div", { class: "controls" }, tokenChoice()),
    figure(t("embeddings.strips"), box),
    figure(t("embeddings.norms"), el("div", {}, legend, chart)),
  );
}

const partOf = (part, i) => vector(`embeddings.${part}`, i);

function stripsOf(i) {
  return EMBEDDINGS.flatMap((part, k) => {
    const values = partOf(part, i);
    const canvas = el("canvas", {
      width: values.length,
      height: 1,
      role: "img",
      "aria-label": t(`embeddings.${part}`),
    });
    const most = largest(values) || 1;
    paint(canvas, values.length, 1, (x) =>
      mixed(palette.paper, values[x] < 0 ? palette.orange : palette.blue, Math.abs(values[x]) / most),
    );
    const row = [
      el("span", { class: "sign" }, ["", "+", "+", "=", "→"][k]),
      el("span", {}, t(`embeddings.${part}`)),
      canvas,
      el("span", {}, number(length(values), 2)),
    ];
    return k === 3 ? [el("span", { class: "total" }), ...row] : row;
  });
}

function paint(canvas, width, height, colour) {
  // Pixel by pixel: colour(x, y) -> [r, g, b].
  const context = canvas.getContext("2d");
  const image = context.createImageData(width, height);
  for (let y = 0, at = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const rgb = colour(x, y);
      for (const part of [0, 1, 2]) image.data[at++] = rgb[part];
      image.data[at++] = 255;
    }
  }
  context.putImageData(image, 0, 0);
}

// ---- 4: attention ----

const visible = () => (state.special || special.every(Boolean) ? all : all.filter((i) => !special[i]));
const blues = () => Array.from({ length: 256 }, (_, k) => mixed(palette.paper, palette.blue, k / 255));

// A map as a small picture: where there are more tokens than pixels, each shows the largest of its numbers.
function miniature(canvas, place, shown, most) {
  const size = Math.min(shown.length, most);
  canvas.width = canvas.height = size;
  const values = map(place);
  const peaks = new Float32Array(size * size);
  const squeezed = shown.map((_, k) => Math.floor((k * size) / shown.length));
  for (let k = 0; k < shown.length; k++) {
    const [from, to] = [shown[k] * S, squeezed[k] * size];
    for (let j = 0; j < shown.length; j++) {
      const value = values[from + shown[j]];
      if (value > peaks[to + squeezed[j]]) peaks[to + squeezed[j]] = value;
    }
  }
  const colours = blues();
  paint(canvas, size, size, (x, y) => colours[Math.round(255 * shade(peaks[y * size + x]))]);
}

const title = ({ layer, head }) => t(head === H ? "attention.rollout" : "attention.head", { layer, head });

function showAttention() {
  const grid = el("div", {
    class: "maps",
    role: "grid",
    "aria-label": t("attention.grid"),
    style: { gridTemplateColumns: `16px repeat(${H + 1}, minmax(20px, 88px))` },
  });
  const large = el("div", { class: "large" });
  const cells = [];
  const header = [...Array(H).keys(), t("attention.roll")].map((text) =>
    el("span", { class: "no", role: "columnheader" }, `${text}`),
  );
  grid.append(el("div", { role: "row", style: { display: "contents" } }, el("span"), ...header));
  for (let layer = 0; layer < N; layer++) {
    const row = el(
      "div",
      { role: "row", style: { display: "contents" } },
      el("span", { class: "no", role: "rowheader" }, `${layer}`),
    );
    for (let head = 0; head <= H; head++) {
      const button = el(
        "button",
        { type: "button", role: "gridcell", "aria-label": title({ layer, head }), title: title({ layer, head }) },
        el("canvas"),
      );
      button.addEventListener("click", () => open(layer, head));
      cells.push(button);
      row.append(button);
    }
    grid.append(row);
  }
  const hold = roving(grid, cells, H + 1, (k) => {
    open(Math.floor(k / (H + 1)), k % (H + 1));
    large.querySelector(".chip[tabindex='0']")?.focus();
  });
  const chosen = () => cells[state.map.layer * (H + 1) + state.map.head];
  const open = (layer, head) => {
    state.map = { layer, head };
    for (const cell of cells) cell.classList.toggle("now", cell === chosen());
    for (const cell of cells) cell.setAttribute("aria-selected", cell === chosen());
    hold(chosen());
    showMap(large);
  };
  showAttention.open = open;
  large.addEventListener("keydown", (event) => event.key === "Escape" && chosen().focus());
  const redraw = () => {
    cells.forEach((cell, k) =>
      miniature(cell.firstChild, { layer: Math.floor(k / (H + 1)), head: k % (H + 1) }, visible(), 96),
    );
    open(state.map.layer, state.map.head);
  };
  const controls = el("div", { class: "controls" }, check("attention.special", "special", redraw));
  section("attention", controls, figure(t("attention.grid"), grid), large);
  watchers.push(() => showMap.token?.());
  redraw();
}

function showMap(box) {
  const shown = visible();
  const values = map(state.map);
  const canvas = el("canvas", { tabindex: "0", role: "img", "aria-label": title(state.map) });
  const readout = el("div", { class: "readout soft", "aria-live": "polite" });
  const row = el("div", { class: "chips" });
  const buttons = chips(shown, (i) => [bdi(name(i)), el("small")]);
  row.append(...buttons);
  const hold = roving(row, buttons, 1);
  const caption = el("span");
  const chipFigure = figure("", row, t("attention.row"));
  chipFigure.querySelector("figcaption > span").replaceWith(caption);
  const turn = check("attention.turn", "turned", () => showMap.token());
  box.replaceChildren(
    el("h3", {}, title(state.map)),
    el("div", { class: "controls" }, turn, readout),
    el("div", { class: "two" }, figure(t("attention.large"), canvas), chipFigure),
  );
  const picture = new LargeMap(canvas, values, shown);
  const say = (i, j) => {
    const key = state.map.head === H ? "attention.reached" : "attention.cell";
    readout.replaceChildren(
      t(key, { from: `\u2068${name(i)}\u2069`, to: `\u2068${name(j)}\u2069`, value: number(values[i * S + j], 4) }),
    );
  };
  picture.onlook = say;
  showMap.token = () => {
    mark(buttons, hold);
    caption.replaceChildren(t(state.turned ? "attention.column" : "attention.row"));
    buttons.forEach((button, k) => {
      const share = state.turned ? values[shown[k] * S + token()] : values[token() * S + shown[k]];
      button.classList.add("painted");
      button.style.background = tint(shade(share));
      button.lastChild.textContent = shareText(share);
    });
    picture.outline(shown.indexOf(token()));
  };
  showMap.token();
}

// One head, as large as there is room, with names where they fit. The mouse and arrow keys go over its cells.
class LargeMap {
  constructor(canvas, values, shown) {
    Object.assign(this, { canvas, values, shown, cell: null, onlook: () => {} });
    const width = canvas.clientWidth || 320;
    const names = shown.map(name);
    this.cells = shown.length;
    const margin = Math.min(90, 8 + 8 * Math.max(...names.map((text) => Array.from(text).length)));
    this.margin = (width - margin) / this.cells >= 11 ? margin : 0;
    this.size = Math.min((width - this.margin) / this.cells, 44);
    this.extent = this.margin + this.size * this.cells;
    this.scale = window.devicePixelRatio || 1;
    canvas.width = canvas.height = Math.round(this.extent * this.scale);
    canvas.style.width = `${this.extent}px`;
    this.picture = el("canvas");
    miniature(this.picture, state.map, shown, Math.max(512, this.cells));
    canvas.addEventListener("pointermove", (event) => this.look(...this.under(event)));
    canvas.addEventListener("click", (event) => this.inside(...this.under(event)) && pin(shown[this.under(event)[0]]));
    canvas.addEventListener("keydown", (event) => this.key(event));
    this.outline(-1);
  }
  under(event) {
    return [event.offsetY, event.offsetX].map((x) => Math.floor((x - this.margin) / this.size));
  }
  inside(i, j) {
    return i >= 0 && j >= 0 && i < this.cells && j < this.cells;
  }
  look(i, j) {
    if (!this.inside(i, j)) return;
    this.cell = [i, j];
    this.onlook(this.shown[i], this.shown[j]);
    this.outline(this.row);
  }
  key(event) {
    const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if (!step) return;
    const [i, j] = this.cell ?? [0, -1];
    this.look(i + step[0], j + step[1]);
    event.preventDefault();
  }
  outline(row) {
    // Draws everything, with a line around the chosen token's row (or column) and the cell that is looked at.
    const context = this.canvas.getContext("2d");
    const { margin, size, cells } = this;
    this.row = row;
    context.setTransform(this.scale, 0, 0, this.scale, 0, 0);
    context.clearRect(0, 0, this.extent, this.extent);
    context.imageSmoothingEnabled = false;
    context.drawImage(this.picture, margin, margin, size * cells, size * cells);
    context.strokeStyle = css(palette.line);
    context.strokeRect(margin + 0.5, margin + 0.5, size * cells - 1, size * cells - 1);
    if (margin) this.names(context);
    context.strokeStyle = css(palette.orange);
    context.lineWidth = 1.5;
    const [long, thick] = [size * cells, Math.max(size, 2)];
    if (row >= 0)
      context.strokeRect(
        margin + (state.turned ? row * size : 0),
        margin + (state.turned ? 0 : row * size),
        state.turned ? thick : long,
        state.turned ? long : thick,
      );
    if (this.cell) context.strokeRect(margin + this.cell[1] * size, margin + this.cell[0] * size, thick, thick);
    context.lineWidth = 1;
  }
  names(context) {
    const { margin, size } = this;
    context.fillStyle = css(palette.soft);
    context.font = `${Math.min(13, Math.max(9, size - 2))}px system-ui, sans-serif`;
    context.textBaseline = "middle";
    this.shown.forEach((i, k) => {
      const text = Array.from(name(i)).slice(0, 12).join("");
      const middle = margin + (k + 0.5) * size;
      context.textAlign = "right";
      context.fillText(text, margin - 5, middle, margin - 6);
      context.save();
      context.translate(middle, margin - 5);
      context.rotate(-Math.PI / 2);
      context.textAlign = "left";
      context.fillText(text, 0, 0, margin - 6);
      context.restore();
    });
  }
}

// ---- 5: the residual stream ----

const layers = () => [t("embedded"), ...Array(N).keys()];

function showStream() {
  const chart = (rows) => {
    const lines = all.map((i) => rows.map((row) => row[i]));
    return lineChart(lines, layers(), { kinds: all.map((i) => ({ class: special[i] ? "put" : "" })), choose: true });
  };
  const pair = el(
    "div",
    { class: "two" },
    figure(t("stream.norm"), chart(data.norm)),
    figure(t("stream.cosine"), chart(data.cosine)),
  );
  section(
    "stream",
    el("div", { class: "controls" }, tokenChoice()),
    pair,
    el("h3", {}, t("lens.title")),
    el("p", { class: "soft" }, t(data.lens ? "lens.lead" : "lens.none")),
    ...lensFigures(),
  );
}

function lensFigures() {
  if (!data.lens) return [];
  const guess = (best, shares, k) => [data.lens.names[best[k]], shares[k]];
  const table = (title, rowOf) => {
    const body = layers().map((layer, n) => el("tr", {}, el("th", { scope: "row" }, `${layer}`), ...rowOf(n)));
    return el(
      "table",
      { class: "lens" },
      el("thead", {}, el("tr", {}, el("th", { scope: "col" }, t("layer")), ...title)),
      el("tbody", {}, ...body),
    );
  };
  const raw = data.answer.activation === "none"; // logits, which no colour can show
  const cell = ([text, share], attributes = {}) =>
    el(
      "td",
      { class: "cell", style: { background: tint(raw ? 0 : share) }, ...attributes },
      el("span", { class: "guess" }, bdi(text), el("small", {}, raw ? minus(share.toFixed(2)) : shareText(share))),
    );
  const ranked = (n, i) => {
    const [best, shares] =
      i === null
        ? [data.lens.best[n], data.lens.probabilities[n]]
        : [data.lens.best[n][i], data.lens.probabilities[n][i]];
    const ranks = best.map((_, k) => k);
    if (i === null) ranks.sort((a, b) => best[a] - best[b]); // labels keep their columns
    return ranks.map((k) => cell(guess(best, shares, k)));
  };
  if (data.answer.kind === "label")
    return [
      figure(
        t("lens.labels"),
        table([el("th", { scope: "col", colspan: data.lens.names.length })], (n) => ranked(n, null)),
      ),
    ];
  const head = all.map((i) => el("th", { scope: "col" }, bdi(name(i))));
  const grid = table(head, (n) =>
    all.map((i) => {
      const [text, share] = guess(data.lens.best[n][i], data.lens.probabilities[n][i], 0);
      return el(
        "td",
        {
          class: "cell",
          "data-token": i,
          style: { background: tint(share) },
          title: share.toFixed(3),
          onclick: () => pin(i),
        },
        bdi(text),
      );
    }),
  );
  const one = el("div");
  const cells = [...grid.querySelectorAll("td")];
  watchers.push(() => {
    head.forEach((th, i) => th.classList.toggle("now", i === token()));
    for (const td of cells) td.classList.toggle("now", Number(td.dataset.token) === token());
    one.replaceChildren(
      table([el("th", { scope: "col", colspan: 5 }, bdi(`${token()}  ${name(token())}`))], (n) => ranked(n, token())),
    );
  });
  const wide = figure(t("lens.tokens"), grid);
  wide.firstChild.tabIndex = 0;
  return [wide, figure(t("lens.one"), one)];
}

// ---- 6: the answer ----

function showAnswer() {
  const { kind, guesses, position, activation, target } = data.answer;
  const list = el("div", { class: "guesses" });
  guesses.forEach((guess) => {
    const best = guess.name === target;
    const width = `${100 * (guess.probability ?? 0)}%`;
    list.append(
      el("span", { class: best ? "best" : "" }, bdi(guess.name)),
      el("span", { class: "track" }, el("span", { class: best ? "fill best" : "fill", style: { width } })),
      el("span", {}, guess.probability === null ? minus(guess.logit.toFixed(3)) : guess.probability.toFixed(3)),
      el("small", { class: "soft" }, `${t("answer.logit")} ${minus(guess.logit.toFixed(2))}`),
    );
  });
  const one = guesses.length === 1;
  const labels = activation === "softmax" ? t("answer.label") : one ? t("answer.one") : t("answer.several");
  const heading = el(
    "p",
    {},
    kind === "label" ? labels : kind === "token" ? t("answer.mask", { position }) : t("answer.vector"),
  );
  const caption = activation === "none" || one ? t("answer.raw") : t("answer.probability");
  const body = el("div");
  const ways = ["ablated", "gradient"].map((way) => {
    const have = data.contributions[`heads_${way}`] || data.contributions[`tokens_${way}`];
    return el(
      "button",
      { type: "button", disabled: !have, onclick: () => ((state.way = way), fill()) },
      t(way === "ablated" ? "answer.ablation" : "answer.gradient"),
    );
  });
  const fill = () => {
    ways.forEach((button, k) => button.setAttribute("aria-pressed", state.way === ["ablated", "gradient"][k]));
    body.replaceChildren(...contributionFigures());
    choose();
  };
  const controls = el("div", { class: "controls" }, el("span", { class: "choice", role: "group" }, ...ways));
  section("answer", heading, ...(guesses.length ? [figure(caption, list)] : []), controls, body);
  fill();
}

function contributionFigures() {
  const heads = data.contributions[`heads_${state.way}`];
  const tokens = data.contributions[`tokens_${state.way}`];
  const mean = data.answer.activation === "softmax";
  const note = el(
    "p",
    { class: "soft" },
    t(state.way === "ablated" ? "answer.ablation.note" : "answer.gradient.note"),
    data.answer.kind === "vector" ? "" : ` ${t(mean ? "answer.score" : "answer.alone", { name: data.answer.target })}`,
  );
  const nothing = (why) => el("p", {}, t(why));
  const why = state.way === "ablated" ? "answer.cost" : "answer.flat";
  return [
    note,
    heads ? headsFigure(heads) : nothing(why),
    tokens ? tokensFigure(tokens) : nothing(why),
    contributionTable(),
  ];
}

function headsFigure(rows) {
  const most = largest(rows.flat()) || 1;
  const grid = el("div", {
    class: "maps",
    role: "grid",
    style: { gridTemplateColumns: `16px repeat(${H}, minmax(20px, 88px))` },
  });
  const header = [...Array(H).keys()].map((head) => el("span", { class: "no", role: "columnheader" }, `${head}`));
  grid.append(el("div", { role: "row", style: { display: "contents" } }, el("span"), ...header));
  const cells = [];
  const readout = el("div", { class: "readout soft", "aria-live": "polite" });
  rows.forEach((row, layer) => {
    const line = el(
      "div",
      { role: "row", style: { display: "contents" } },
      el("span", { class: "no", role: "rowheader" }, `${layer}`),
    );
    row.forEach((value, head) => {
      const label = `${title({ layer, head })}: ${signedNumber(value, 5)}`;
      const cell = el(
        "button",
        {
          type: "button",
          role: "gridcell",
          "aria-label": label,
          title: label,
          style: { background: signed(value / most) },
        },
        el("span", { class: "value" }, signedNumber(value, digitsFor(most))),
      );
      const say = () => readout.replaceChildren(label);
      for (const event of ["focus", "pointerenter"]) cell.addEventListener(event, say);
      cell.addEventListener("click", () => goTo(layer, head));
      cells.push(cell);
      line.append(cell);
    });
    grid.append(line);
  });
  roving(grid, cells, H, (k) => goTo(Math.floor(k / H), k % H));
  return el("div", {}, readout, figure(t("answer.heads"), grid));
}

function goTo(layer, head) {
  showAttention.open(layer, head);
  document.querySelector(".large").scrollIntoView();
  document.querySelector(".large .chip[tabindex='0']").focus({ preventScroll: true });
}

function tokensFigure(values) {
  const most = largest(values) || 1;
  const row = el("div", { class: "chips" });
  const buttons = chips(all, (i) => [bdi(name(i)), el("small", {}, signedNumber(values[i], digitsFor(most)))]);
  buttons.forEach((button, i) => {
    button.style.background = signed(values[i] / most);
    button.classList.add("painted");
  });
  row.append(...buttons);
  const hold = roving(row, buttons, 1);
  tokensFigure.mark = () => mark(buttons, hold);
  return figure(t("answer.tokens"), row);
}

function contributionTable() {
  const { tokens_ablated: ablated, tokens_gradient: gradient } = data.contributions;
  const columns = [
    [t("answer.ablation"), ablated],
    [t("answer.gradient"), gradient],
  ].filter(([, values]) => values);
  if (!columns.length) return "";
  const rows = all.map((i) =>
    el(
      "tr",
      {},
      el("th", { scope: "row" }, `${i}  `, bdi(name(i))),
      ...columns.map(([, values]) => el("td", {}, signedNumber(values[i], 5))),
    ),
  );
  const head = el(
    "tr",
    {},
    el("th", { scope: "col" }, t("token")),
    ...columns.map(([text]) => el("th", { scope: "col" }, text)),
  );
  return el(
    "details",
    {},
    el("summary", {}, t("answer.table")),
    el("div", { class: "body", tabindex: "0" }, el("table", {}, el("thead", {}, head), el("tbody", {}, ...rows))),
  );
}

// ---- 7: the numbers ----

// What is given as lists stands beside the arrays.
const lists = () => {
  const found = { "stream.norm": data.norm, "stream.cosine": data.cosine };
  if (data.lens && data.answer.kind === "label") found["lens.probabilities"] = data.lens.probabilities;
  for (const [key, values] of Object.entries(data.contributions)) if (values) found[`contributions.${key}`] = values;
  return found;
};

function tensorOf(key) {
  const found = array(key);
  if (found) return found;
  const rows = lists()[key];
  const shape = Array.isArray(rows[0]) ? [rows.length, rows[0].length] : [rows.length];
  return { shape, values: Float64Array.from(rows.flat()) };
}

function showNumbers() {
  const names = [...Object.keys(data.arrays), ...Object.keys(lists())];
  if (!names.includes(state.tensor)) state.tensor = names[0];
  const select = el("select", {
    onchange: () => (Object.assign(state, { tensor: select.value, at: [], row: 0, column: 0 }), fill()),
  });
  for (const key of names) select.append(el("option", { value: key }, key));
  select.value = state.tensor;
  const body = el("div");
  const fill = () => body.replaceChildren(...tableOf(state.tensor, fill));
  const missing = data.names.filter((key) => !(key in data.arrays) && !sameAsOther(key));
  section(
    "numbers",
    el("div", { class: "controls" }, el("label", {}, t("numbers.tensor"), select)),
    body,
    ...(missing.length ? [missingNote(missing)] : []),
  );
  fill();
}

// Names that `capture` has for what another name shows too.
const sameAsOther = (key) => /\.heads\.|ffn\.norm$|^embeddings\.norm$/.test(key);

function missingNote(missing) {
  const code = `with minibert.capture(model, "${missing[0]}") as seen:\n    model(ids)\nseen["${missing[0]}"]`;
  return el(
    "details",
    {},
    el("summary", {}, t("numbers.missing", { count: missing.length })),
    el("pre", {}, el("code", {}, code)),
    el("p", { class: "soft" }, missing.join("  ")),
  );
}

function tableOf(key, again) {
  const { shape, values } = tensorOf(key);
  const [rows, columns] = [shape.length > 1 ? shape.at(-2) : 1, shape.at(-1)];
  const leading = shape.slice(0, -2);
  leading.forEach((_, k) => (state.at[k] ??= 0));
  const indices = leading.map((n, k) => {
    const input = el("input", {
      type: "number",
      min: 0,
      max: n - 1,
      value: state.at[k],
      onchange: () => ((state.at[k] = Math.max(0, Math.min(n - 1, Math.floor(input.value) || 0))), again()),
    });
    return el(
      "label",
      {},
      t(key.endsWith("attention.probs") || key.endsWith("attention.scores") ? "head" : "numbers.index"),
      input,
    );
  });
  const start = leading.reduce((at, n, k) => at * n + state.at[k], 0) * rows * columns;
  const named = (n, i) => (n === S ? [`${i}  `, bdi(name(i))] : [`${i}`]);
  const [tall, wide] = [32, 12];
  const down = range(state.row, Math.min(rows, state.row + tall));
  const across = range(state.column, Math.min(columns, state.column + wide));
  const head = el("tr", {}, el("th", {}), ...across.map((j) => el("th", { scope: "col" }, ...named(columns, j))));
  const lines = down.map((i) =>
    el(
      "tr",
      {},
      el("th", { scope: "row" }, ...named(rows, i)),
      ...across.map((j) => el("td", {}, minus(number(values[start + i * columns + j], 4)))),
    ),
  );
  const pager = (what, property, step, limit) => {
    const button = (to, key, sign) =>
      el(
        "button",
        {
          type: "button",
          disabled: to < 0 || to >= limit,
          "aria-label": t(key, { what }),
          onclick: () => ((state[property] = to), again()),
        },
        sign,
      );
    return limit > step
      ? [
          el(
            "span",
            { class: "choice" },
            button(state[property] - step, "numbers.before", "‹"),
            button(state[property] + step, "numbers.after", "›"),
          ),
          el("span", {}, `${what} ${state[property]}–${Math.min(limit, state[property] + step) - 1} / ${limit}`),
        ]
      : [];
  };
  const coding = t(`numbers.${data.arrays[key]?.coding ?? "json"}`);
  const copy = el(
    "button",
    { type: "button", onclick: () => copyText(tensorJson(key)).then(() => (copy.textContent = t("numbers.copied"))) },
    t("numbers.copy"),
  );
  const save = el(
    "button",
    {
      type: "button",
      onclick: () => saveBlob(new Blob([tensorJson(key)], { type: "application/json" }), `${key}.json`),
    },
    t("numbers.save"),
  );
  return [
    el(
      "div",
      { class: "controls" },
      ...indices,
      ...pager(t("numbers.rows"), "row", tall, rows),
      ...pager(t("numbers.columns"), "column", wide, columns),
    ),
    el(
      "div",
      { class: "body", tabindex: "0", role: "region", "aria-label": key },
      el("table", {}, el("thead", {}, head), el("tbody", {}, ...lines)),
    ),
    el(
      "div",
      { class: "controls" },
      copy,
      save,
      el("span", { class: "soft" }, t("numbers.shape", { shape: `[${shape.join(", ")}]`, coding })),
    ),
  ];
}

const range = (from, to) => Array.from({ length: Math.max(0, to - from) }, (_, k) => from + k);

function tensorJson(key) {
  const { shape, values } = tensorOf(key);
  const nested = (at, dimension) => {
    const below = shape.slice(dimension + 1).reduce((product, n) => product * n, 1);
    const items = range(0, shape[dimension]).map((k) =>
      dimension === shape.length - 1 ? short(values[at + k]) : nested(at + k * below, dimension + 1),
    );
    return `[${items.join(",")}]`;
  };
  return `{"name":${JSON.stringify(key)},"shape":[${shape}],"values":${nested(0, 0)}}`;
}

const short = (x) => String(Number(x.toPrecision(7)));

// ---- charts ----

// Pixels that a chart has: the page's width, or where two stand side by side half of it.
function room(shared) {
  const width = Math.max(280, document.querySelector("main").clientWidth - 38);
  return shared && innerWidth >= 860 ? (width - 38) / 2 : width;
}

// Lines over the steps 0 … n-1. choose: the nearest line to the mouse is chosen; here: a mark at the chosen token.
function lineChart(lines, labels, { kinds, choose: chooses = false, here = false }) {
  const [width, height, left, right, top, bottom] = [room(chooses), 260, 44, 22, 10, 28];
  const count = labels.length;
  const values = lines.flat();
  const ticks = niceTicks(Math.min(0, ...bounds(values)), Math.max(...bounds(values)));
  const [low, high] = [ticks[0], ticks.at(-1)];
  const x = (k) => (count > 1 ? left + (k * (width - left - right)) / (count - 1) : (left + width - right) / 2);
  const y = (value) => height - bottom - ((value - low) / (high - low)) * (height - top - bottom);
  const svg = draw("svg", {
    viewBox: `0 0 ${width} ${height}`,
    role: "img",
    style: `--faint: ${Math.max(0.05, Math.min(0.35, 12 / lines.length))}`,
  });
  for (const tick of ticks) {
    svg.append(
      draw("line", { class: "axis", x1: left, x2: width - right, y1: y(tick), y2: y(tick) }),
      draw("text", { x: left - 8, y: y(tick) + 4, "text-anchor": "end" }, `${+tick.toPrecision(4)}`),
    );
  }
  const every = Math.ceil((count * 60) / (width - left - right));
  labels.forEach(
    (label, k) =>
      k % every === 0 &&
      svg.append(
        draw("text", { x: x(k), y: height - 8, "text-anchor": "middle" }, Array.from(`${label}`).slice(0, 8).join("")),
      ),
  );
  const point = (line) => line.map((value, k) => `${x(k).toFixed(1)},${y(value).toFixed(1)}`).join("L");
  const dot = (line) => (count > 1 ? "" : `m-4,0h8`); // a single step is a dash
  const paths = lines.map((line, k) =>
    draw("path", { d: `M${point(line)}${dot(line)}`, class: kinds[k].class, style: kinds[k].style ?? "" }),
  );
  svg.append(...paths);
  if (here) {
    const mark = draw("line", { class: "here", y1: top, y2: height - bottom });
    svg.append(mark);
    watchers.push(() => ["x1", "x2"].forEach((end) => mark.setAttribute(end, x(token()))));
  }
  const step = (event) => {
    const box = svg.getBoundingClientRect();
    const [px, py] = [
      ((event.clientX - box.left) * width) / box.width,
      ((event.clientY - box.top) * height) / box.height,
    ];
    return [Math.max(0, Math.min(count - 1, Math.round((px - x(0)) / (count > 1 ? x(1) - x(0) : 1)))), py];
  };
  const nearest = (event) => {
    const [k, py] = step(event);
    if (here) return k;
    return lines.reduce(
      (best, line, i) => (Math.abs(y(line[k]) - py) < Math.abs(y(lines[best][k]) - py) ? i : best),
      0,
    );
  };
  svg.addEventListener("pointermove", (event) => event.pointerType === "mouse" && peek(nearest(event)));
  svg.addEventListener("pointerleave", () => peek(null));
  svg.addEventListener("click", (event) => pin(nearest(event)));
  if (chooses) {
    let before = null;
    watchers.push(() => {
      before?.classList.remove("now");
      before = paths[token()];
      before.classList.add("now");
      svg.append(before); // above the others
    });
  }
  return svg;
}

function bounds(values) {
  let [low, high] = [Infinity, -Infinity];
  for (const value of values) [low, high] = [Math.min(low, value), Math.max(high, value)];
  return [low, high];
}

function niceTicks(low, high) {
  const rough = (high - low || 1) / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((n) => n * power).find((n) => n >= rough * 0.999);
  const first = Math.floor(low / step);
  return range(first, Math.max(first + 1, Math.ceil(high / step - 1e-9)) + 1).map((n) => n * step);
}

// ---- saving ----

// What a figure shows, as one SVG: boxes and text where the browser has put them, canvases as pictures.
function svgOf(box) {
  const origin = box.getBoundingClientRect();
  const at = (rect) => ({
    x: rect.left - origin.left + box.scrollLeft,
    y: rect.top - origin.top + box.scrollTop,
    width: rect.width,
    height: rect.height,
  });
  const [width, height] = [box.scrollWidth, box.scrollHeight];
  const svg = draw("svg", { xmlns: "http://www.w3.org/2000/svg", viewBox: `0 0 ${width} ${height}`, width, height });
  svg.append(draw("rect", { width, height, fill: css(palette.paper) }));
  const visit = (node) => {
    if (node.nodeType === Node.TEXT_NODE) return svg.append(...textOf(node, at));
    if (node.nodeType !== Node.ELEMENT_NODE) return;
    if (getComputedStyle(node).display === "contents") return node.childNodes.forEach(visit); // a row without a box
    if (!node.getClientRects().length) return;
    const place = at(node.getBoundingClientRect());
    if (node instanceof SVGSVGElement) return svg.append(styled(node, place));
    if (node instanceof HTMLCanvasElement) {
      const href = enlarged(node).toDataURL();
      return svg.append(draw("image", { ...place, href, preserveAspectRatio: "none" }));
    }
    svg.append(...boxOf(node, place));
    node.childNodes.forEach(visit);
  };
  box.childNodes.forEach(visit);
  return svg;
}

const clear = (colour) => colour === "transparent" || /^rgba\(.*, 0\)$/.test(colour);

function boxOf(node, place) {
  const style = getComputedStyle(node);
  const border = parseFloat(style.borderTopWidth);
  const line = border > 0 && !clear(style.borderTopColor) ? style.borderTopColor : "none";
  const fill = clear(style.backgroundColor) ? "none" : style.backgroundColor;
  if (fill === "none" && line === "none") return [];
  if (place.height <= border) return [draw("rect", { ...place, fill: line })]; // a key of a legend
  const rx = parseFloat(style.borderTopLeftRadius) || 0;
  return [draw("rect", { ...place, rx, fill, stroke: line, "fill-opacity": style.opacity })];
}

function textOf(node, at) {
  if (!node.textContent.trim()) return [];
  const range = document.createRange();
  range.selectNodeContents(node);
  const rect = range.getClientRects()[0];
  const style = getComputedStyle(node.parentElement);
  if (!rect || style.visibility === "hidden" || parseFloat(style.fontSize) === 0) return [];
  const place = at(rect);
  const y = place.y + place.height / 2 + 0.35 * parseFloat(style.fontSize);
  return [
    draw(
      "text",
      {
        x: place.x,
        y,
        "font-size": style.fontSize,
        "font-family": style.fontFamily,
        "font-weight": style.fontWeight,
        fill: style.color,
      },
      node.textContent.trim(),
    ),
  ];
}

// A copy of a chart that needs no style sheet.
function styled(svg, place) {
  const copy = svg.cloneNode(true);
  const [from, to] = [svg, copy].map((root) => [...root.querySelectorAll("*")]);
  from.forEach((element, k) => {
    const style = getComputedStyle(element);
    for (const property of [
      "stroke",
      "stroke-width",
      "stroke-dasharray",
      "fill",
      "opacity",
      "font-size",
      "font-family",
    ])
      to[k].setAttribute(property, style.getPropertyValue(property));
    to[k].removeAttribute("class");
    to[k].removeAttribute("style");
  });
  for (const [key, value] of Object.entries(place)) copy.setAttribute(key, value);
  return copy;
}

// Small maps have a pixel for each number; viewers would blur them.
function enlarged(canvas) {
  const factor = Math.max(1, Math.floor(256 / canvas.width));
  if (factor === 1) return canvas;
  const larger = el("canvas", { width: canvas.width * factor, height: canvas.height * factor });
  const context = larger.getContext("2d");
  context.imageSmoothingEnabled = false;
  context.drawImage(canvas, 0, 0, larger.width, larger.height);
  return larger;
}

async function saveFigure(box, kind) {
  const svg = svgOf(box);
  const text = new XMLSerializer().serializeToString(svg);
  const file = `${box.closest("section").id}.${kind.toLowerCase()}`;
  if (kind === "SVG") return saveBlob(new Blob([text], { type: "image/svg+xml" }), file);
  const picture = new Image();
  picture.src = URL.createObjectURL(new Blob([text], { type: "image/svg+xml" }));
  await picture.decode();
  const scale = Math.min(2, 16000 / Math.max(svg.width.baseVal.value, svg.height.baseVal.value, 1));
  const canvas = el("canvas", {
    width: Math.ceil(svg.width.baseVal.value * scale),
    height: Math.ceil(svg.height.baseVal.value * scale),
  });
  canvas.getContext("2d").drawImage(picture, 0, 0, canvas.width, canvas.height);
  URL.revokeObjectURL(picture.src);
  saveBlob(await new Promise((resolve) => canvas.toBlob(resolve)), file);
}

function saveBlob(blob, file) {
  const link = el("a", { href: URL.createObjectURL(blob), download: file });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Frames and old browsers: by a selection.
    const area = el("textarea", { class: "hidden" });
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
}

// ---- start ----

const SECTIONS = [
  ["pieces", showPieces],
  ["encoding", showEncoding],
  ["embeddings", showEmbeddings],
  ["attention", showAttention],
  ["stream", showStream],
  ["answer", showAnswer],
  ["numbers", showNumbers],
];

function showIntro() {
  const { architecture } = data;
  const facts = t("intro.facts", { tokens: S, layers: N, heads: H, width: data.config.hidden_size, architecture });
  const lines = [el("p", { class: "soft" }, bdi(data.model), data.model ? " · " : "", facts)];
  if (data.left_out) lines.push(el("p", {}, t("intro.cut", { count: data.left_out })));
  lines.push(el("p", { class: "soft" }, t("intro.hint")));
  document
    .getElementById("intro")
    .replaceChildren(
      ...data.texts.map((text) => el("h1", { dir: "auto", class: text.length > 200 ? "long" : "" }, text)),
      ...lines,
    );
}

function show() {
  // Everything anew: at the start, in another language, in other colours.
  watchers.length = 0;
  state.peeked = null;
  document.documentElement.lang = state.language === "zh" ? "zh-Hans" : "en";
  document.documentElement.dataset.theme = state.dark ? "dark" : "light";
  document.title = `${data.texts[0].slice(0, 60)} · minibert explain`;
  readPalette();
  document.getElementById("nav").setAttribute("aria-label", t("nav"));
  document
    .getElementById("nav")
    .replaceChildren(...SECTIONS.map(([id]) => el("a", { href: `#${id}` }, t(`nav.${id}`))));
  document.getElementById("language").textContent = t("language");
  document.getElementById("theme").textContent = state.dark ? "☀" : "☾";
  document.getElementById("theme").setAttribute("aria-label", t("theme"));
  showIntro();
  for (const [, showSection] of SECTIONS) showSection();
  watchers.push(() => tokensFigure.mark?.());
  choose();
}

// Begins with the head that looks most sharply at words that are no neighbours: what one came to see.
function sharpest() {
  let best = { sharpness: -1 };
  const inner = all.filter((i) => !special[i]).slice(0, 128);
  for (let layer = 0; layer < N; layer++) {
    for (let head = 0; head < H; head++) {
      const values = map({ layer, head });
      let sharpness = 0;
      for (const i of inner) for (const j of inner) if (Math.abs(i - j) > 1) sharpness += values[i * S + j] ** 2;
      if (sharpness > best.sharpness) best = { layer, head, sharpness };
    }
  }
  return { layer: best.layer, head: best.head };
}

document
  .getElementById("language")
  .addEventListener("click", () => ((state.language = state.language === "zh" ? "en" : "zh"), show()));
let width = innerWidth;
addEventListener("resize", () => {
  if (innerWidth !== width) show(); // not when a phone's keyboard or address bar comes and goes
  width = innerWidth;
});
document.getElementById("theme").addEventListener("click", () => ((state.dark = !state.dark), show()));

(async () => {
  try {
    await unpack();
  } catch {
    document.getElementById("intro").append(el("p", {}, t("intro.failed")));
    return;
  }
  state.map = sharpest();
  state.tensor = `layers.${state.map.layer}.attention.probs`;
  state.at = [state.map.head];
  show();
  document.documentElement.dataset.ready = "yes";
})();

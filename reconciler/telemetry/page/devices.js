// The table of devices: a row each, made once and changed only where the device has changed.

import { COLUMNS, arrange } from "./arrange.js";
import { byId, make, markElement, place, setAttribute, setText } from "./dom.js";
import { details } from "./details.js";
import { MARKS, count, desiredOf, duration, markOf, originOf, size } from "./words.js";

const PIECE = 100;
const DEEPEST = 8;

const view = { text: "", onlyWrong: false, tree: true, column: "name", descending: false };
const rows = new Map();
let items = [], events = [], now = new Date(), shown = PIECE, opened = null;

/** Listens to what people do with the table. */
export function startDevices() {
  byId("columns").append(...COLUMNS.map(heading));
  byId("sort-by").append(...COLUMNS.map(({ id, title }) => make("option", { value: id }, title)));
  byId("sort-by").addEventListener("change", (event) => sortBy(event.target.value));
  byId("filter").addEventListener("input", (event) => look({ text: event.target.value }));
  byId("only-wrong").addEventListener("change", (event) => look({ onlyWrong: event.target.checked }));
  for (const choice of document.querySelectorAll("input[name=view]")) choice.addEventListener("change", chooseView);
  byId("devices-more").addEventListener("click", more);
  byId("devices").addEventListener("click", clicked);
  byId("devices").addEventListener("keydown", moved);
  // Rows are made as somebody comes near them: the first ones are there at once, however many there are.
  new IntersectionObserver(([seen]) => seen.isIntersecting && more(), { rootMargin: "600px" }).observe(byId("devices-more"));
}

export function renderDevices(devices, lastEvents, moment) {
  [items, events, now] = [devices, lastEvents, moment];
  render();
}

/** Show these devices only: what a pool's card asks for. */
export function filterFor(text) {
  look({ text, onlyWrong: false });
  byId("filter").focus();
}

/** Show this device and open it, whatever was filtered. */
export function reveal(name) {
  if (!items.some((item) => item.metadata.name === name)) return;
  opened = name;
  look({ text: "", onlyWrong: false });
  const index = arrange(items, view).findIndex(({ item }) => item.metadata.name === name);
  shown = Math.max(shown, index + 1);
  render();
  rows.get(name).button.focus();
  rows.get(name).element.scrollIntoView({ block: "center" });
}

/** Esc: first what is open is closed, then the filter is cleared. */
export function stepBack() {
  if (opened !== null) {
    const row = rows.get(opened);
    opened = null;
    render();
    if (row?.element.isConnected) row.button.focus();
    return;
  }
  look({ text: "", onlyWrong: false });
}

function look(change) {
  Object.assign(view, change);
  shown = PIECE;
  byId("filter").value = view.text;
  byId("only-wrong").checked = view.onlyWrong;
  render();
}

/** A tree is in the order of names; by anything else there is a list. */
function chooseView({ target }) {
  const tree = target.value === "tree";
  look(tree ? { tree, column: "name", descending: false } : { tree });
}

/** Again turns it round. What is largest or latest comes first at first. */
function sortBy(column) {
  const { mostFirst = false } = COLUMNS.find((one) => one.id === column);
  const descending = view.column === column ? !view.descending : mostFirst;
  const tree = view.tree && column === "name";
  document.querySelector(`input[name=view][value=${tree ? "tree" : "list"}]`).checked = true;
  look({ column, descending, tree });
}

function more() {
  if (byId("devices-more").hidden) return;
  shown += PIECE;
  render();
}

function clicked({ target }) {
  if (target.closest(".details-row") || !window.getSelection().isCollapsed) return;
  const name = target.closest("tr")?.dataset.name;
  if (name === undefined) return;
  opened = opened === name ? null : name;
  render();
}

function moved(event) {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (step === undefined || !event.target.classList.contains("device-name")) return;
  event.preventDefault();
  const buttons = [...byId("devices").querySelectorAll(".device-name")];
  buttons[buttons.indexOf(event.target) + step]?.focus();
}

function render() {
  const arranged = arrange(items, view);
  const nodes = [];
  for (const entry of arranged.slice(0, shown)) {
    const row = rowOf(entry);
    nodes.push(row.element);
    if (entry.item.metadata.name === opened) nodes.push(detailsOf(row, entry.item));
  }
  place(byId("devices"), nodes);
  forget();
  for (const { id } of COLUMNS) {
    const sorted = id === view.column ? (view.descending ? "descending" : "ascending") : "none";
    setAttribute(byId(`column-${id}`), "aria-sort", sorted);
  }
  byId("sort-by").value = view.column;
  renderEnds(arranged.length);
}

function forget() {
  const names = new Set(items.map((item) => item.metadata.name));
  for (const name of rows.keys()) if (!names.has(name)) rows.delete(name);
  if (!names.has(opened)) opened = null;
}

function renderEnds(number) {
  const left = Math.max(0, number - shown);
  const all = count(items.length, "device").split(" ")[0];
  const filtered = view.text.trim() !== "" || view.onlyWrong;
  setText(byId("devices-count"), filtered ? `${number.toLocaleString("en")} of ${all} shown` : all);
  byId("devices-more").hidden = left === 0;
  setText(byId("devices-more"), `Show ${Math.min(left, PIECE)} more of ${left.toLocaleString("en")}`);
  byId("devices-none").hidden = number > 0;
  byId("devices-table").hidden = items.length === 0;
  if (number === 0) place(byId("devices-none"), [items.length === 0 ? nothing : noMatch]);
}

const nothing = make("p", {}, "No record declares a device yet.");
const noMatch = make("p", {}, "No device fits the filter. ",
  make("button", { type: "button", class: "link", onclick: stepBack }, "Show all"));

function heading({ id, title, number }) {
  const button = make("button", { type: "button", onclick: () => sortBy(id) }, title);
  return make("th", { id: `column-${id}`, scope: "col", role: "columnheader", class: number ? "number" : null }, button);
}

function rowOf({ item, depth, context }) {
  const { name } = item.metadata;
  let row = rows.get(name);
  if (row === undefined) rows.set(name, (row = newRow(name)));
  const content = JSON.stringify([item, depth, context, view.tree]);
  if (row.content !== content) {
    row.content = content;
    fill(row, item, depth, context);
  }
  setText(row.cells.since, item.status === null ? "–" : duration((now - new Date(item.status.since)) / 1000));
  setAttribute(row.button, "aria-expanded", String(opened === name));
  return row;
}

function newRow(name) {
  const cells = {};
  for (const { id, title, number } of COLUMNS) {
    cells[id] = make("td", { role: "cell", "data-title": title, class: `of-${id}${number ? " number" : ""}` });
  }
  const button = make("button", { type: "button", class: "device-name name", "aria-expanded": "false" }, name);
  const origin = make("span", { class: "origin quiet" });
  cells.name.append(button, origin);
  const element = make("tr", { role: "row", "data-name": name }, ...Object.values(cells));
  return { element, cells, button, origin, content: "", details: null, told: "" };
}

function fill(row, item, depth, context) {
  const { cells, element } = row;
  const mark = markOf(item), origin = originOf(item);
  element.dataset.mark = mark;
  element.classList.toggle("context", context);
  element.style.setProperty("--depth", Math.min(depth, DEEPEST));
  element.classList.toggle("child", depth > 0);
  // A tree shows it to the eye; it is said all the same.
  row.origin.className = view.tree && depth > 0 ? "hidden" : "origin quiet";
  setText(row.origin, origin === null ? "" : ` snapshot of ${origin}`);
  cells.ready.replaceChildren(markElement(mark, MARKS[mark].symbol), item.status?.ready ? "yes" : mark === "wrong" ? "no" : mark === "left" ? "left alone" : "not yet");
  setText(cells.desired, desiredOf(item));
  setText(cells.live, item.status?.live ?? "–");
  setText(cells.reason, item.status?.reason ?? "–");
  setText(cells.size, size(item.status?.sizeBytes));
  setText(cells.mapped, size(item.status?.mappedBytes));
}

/** Made anew only where something in it has changed, so that what is selected in it stays so. */
function detailsOf(row, item) {
  const content = JSON.stringify([item, events.filter((event) => event.object.name === item.metadata.name).at(-1)]);
  if (row.details === null || row.told !== content) {
    const id = `details-${item.metadata.name}`;
    row.details = make("tr", { class: "details-row", role: "row", id },
      make("td", { role: "cell", colspan: String(COLUMNS.length) }, details(item, events, now, reveal)));
    row.told = content;
    setAttribute(row.button, "aria-controls", id);
  }
  return row.details;
}

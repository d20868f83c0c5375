// A card for each pool.

import { byId, command, make, markElement, place, setText } from "./dom.js";
import { MARKS, count, desiredOf, markOf, percent, size } from "./words.js";

const METADATA_LOW = 75;
const cards = new Map();

/** `showDevices(name)` is called by a card whose devices somebody wants to see. */
export function renderPools(pools, devices, showDevices) {
  const numbers = new Map();
  for (const { metadata } of devices) {
    const pool = metadata.name.split("/", 1)[0];
    numbers.set(pool, (numbers.get(pool) ?? 0) + 1);
  }
  const nodes = pools.map((pool) => cardOf(pool, numbers.get(pool.metadata.name) ?? 0, showDevices));
  setText(byId("pools-count"), pools.length === 0 ? "" : String(pools.length));
  place(byId("pools"), nodes.length > 0 ? nodes : [nothing]);
}

const nothing = make("div", { class: "none" }, "No record declares a pool yet.");

/** The card is made anew only where something in it has changed, and only while nobody is on it. */
function cardOf(pool, devices, showDevices) {
  const { name } = pool.metadata;
  const content = JSON.stringify([pool, devices]);
  let card = cards.get(name);
  if (card === undefined) {
    card = { element: make("article", { class: "card", "aria-label": `Pool ${name}` }), content: "" };
    cards.set(name, card);
  }
  if (card.content !== content) {
    const held = card.element.contains(document.activeElement) ? document.activeElement.className : null;
    card.element.replaceChildren(...inside(pool, devices, showDevices));
    card.element.dataset.mark = markOf(pool);
    card.content = content;
    if (held) card.element.querySelector(`.${CSS.escape(held)}`)?.focus();
  }
  return card.element;
}

function inside(pool, devices, showDevices) {
  const { metadata: { name }, status } = pool;
  const mark = markOf(pool);
  const show = make("button", { type: "button", class: "link", onclick: () => showDevices(name) }, count(devices, "device"));
  const head = make("header", {},
    make("h3", {}, markElement(mark, MARKS[mark].symbol), make("span", { class: "name" }, name)), show);
  if (status === null) return [head, make("p", { class: "quiet" }, MARKS.unknown.words)];
  const told = mark === "ok" ? null : make("p", { class: "message" }, make("strong", {}, status.reason), ` ${status.message}`);
  return [head, facts(pool), told, ...bars(pool), leaks(status), mark === "ok" ? null : command(`dm-reconciler describe pool ${name}`)]
    .filter((part) => part !== null);
}

function facts(pool) {
  const { status } = pool;
  const mark = markOf(pool);
  const said = [
    ["state", MARKS[mark].words], ["desired", desiredOf(pool)], ["live", status.live], ["mode", status.mode],
  ];
  return make("dl", { class: "facts" }, ...said.map(([term, text]) => make("div", {}, make("dt", {}, term), make("dd", {}, text))));
}

function bars({ spec, status }) {
  const grows = spec?.extend?.threshold ?? null;
  const low = spec === null ? null : 100 - number(spec.lowWaterMark, 10);
  const data = limit(number(grows, null), low, "low water mark");
  const metadata = limit(number(grows, null), spec === null ? null : METADATA_LOW, "low");
  return [
    bar("Data", status.dataUsedBytes, status.dataSizeBytes, data),
    bar("Metadata", status.metadataUsedBytes, status.metadataSizeBytes, metadata),
  ];
}

const number = (text, otherwise) => (text === null || text === undefined ? otherwise : Number.parseInt(text, 10));

/** Where the pool grows by itself, or where it is said to be low. */
function limit(grows, low, word) {
  if (grows !== null) return { at: grows, words: `grows at ${grows} %`, over: "over its threshold" };
  return low === null ? null : { at: low, words: `${word} at ${low} %`, over: "low on space" };
}

function bar(title, used, total, mark) {
  const share = percent(used, total);
  const label = make("span", { class: "fill-title" }, title);
  if (share === null) return make("div", { class: "fill" }, label, make("span", { class: "quiet" }, "not known"));
  const over = mark !== null && used * 100 >= mark.at * total;
  const text = `${size(used)} of ${size(total)}`;
  const meter = make("div", {
    class: "meter", role: "meter", "aria-label": title, "aria-valuemin": "0", "aria-valuemax": "100",
    "aria-valuenow": String(share), "aria-valuetext": `${share} %, ${text}`, "data-over": over ? "yes" : "no",
  });
  const filled = make("span", { class: "meter-used" });
  filled.style.width = `${share}%`;
  meter.append(filled);
  if (mark !== null) {
    const tick = make("span", { class: "meter-tick" });
    tick.style.left = `${mark.at}%`;
    meter.append(tick);
  }
  const beside = mark === null ? "" : over ? `! ${mark.over}: ${mark.words}` : mark.words;
  return make("div", { class: "fill" }, label, make("span", { class: "fill-share" }, `${share} %`),
    make("span", { class: "fill-numbers quiet" }, text), meter,
    make("span", { class: over ? "fill-limit over" : "fill-limit quiet" }, beside));
}

function leaks(status) {
  const ids = status.leakedThinIds ?? [];
  if (ids.length === 0) return null;
  const shown = ids.slice(0, 20).join(", ") + (ids.length > 20 ? " …" : "");
  return make("div", { class: "leaks" },
    make("p", {}, make("strong", {}, count(ids.length, "thin id")), ` that nothing names (${size(status.leakedBytes)}): ${shown}`),
    command("dm-reconciler doctor"));
}

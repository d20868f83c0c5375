// What was found and what was done about it, newest first.

import { byId, make, markElement, place, setText } from "./dom.js";
import { clock, count, took } from "./words.js";

const PIECE = 50;
const TYPES = {
  Found: { mark: "found", symbol: "!" },
  Healed: { mark: "ok", symbol: "✓" },
  Failed: { mark: "wrong", symbol: "×" },
  Blocked: { mark: "wrong", symbol: "!" },
  Info: { mark: "left", symbol: "i" },
};

let elements = new Map();
let shown = PIECE;
let latest = [];
let toReveal = () => {};

/** `reveal(name)` shows the device that an event is about. */
export function startEvents(reveal) {
  toReveal = reveal;
  byId("events-more").addEventListener("click", () => {
    shown += PIECE;
    renderEvents(latest);
  });
}

export function renderEvents(events) {
  latest = events;
  const visible = events.slice(-shown).reverse();
  const kept = new Map();
  const nodes = visible.map((event) => {
    const key = `${event.metadata.name} ${event.time} ${event.count}`;
    const element = elements.get(key) ?? eventElement(event, toReveal);
    kept.set(key, element);
    return element;
  });
  elements = kept;
  place(byId("events"), nodes);
  byId("events-none").hidden = events.length > 0;
  const left = events.length - visible.length;
  byId("events-more").hidden = left === 0;
  setText(byId("events-more"), `Show ${Math.min(left, PIECE)} more of ${count(left, "older event")}`);
}

export function eventElement(event, reveal = null) {
  const type = TYPES[event.type] ?? TYPES.Info;
  const { kind, name } = event.object;
  const object = reveal && kind === "ThinDevice"
    ? make("button", { type: "button", class: "link", onclick: () => reveal(name) }, name) : name;
  const times = event.count > 1 ? `${event.count} times since ${clock(new Date(event.first))}` : "";
  return make("li", { class: "event", "data-mark": type.mark },
    make("time", { class: "quiet", datetime: event.time }, clock(new Date(event.time))),
    make("span", { class: "event-type" }, markElement(type.mark, type.symbol), event.type),
    make("span", { class: "event-object name" }, object),
    make("span", { class: "event-reason" }, event.reason),
    make("span", { class: "event-message" }, event.message,
      times && make("span", { class: "quiet" }, ` (${times})`)),
    make("span", { class: "event-took" }, event.seconds === null ? "" : `took ${took(event.seconds)}`));
}

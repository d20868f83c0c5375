// What a row opens: everything known of one device, and what to type next.

import { command, make } from "./dom.js";
import { MARKS, clock, duration, markOf, originOf, size } from "./words.js";
import { eventElement } from "./events.js";

const EVENTS = 5;
const FOR_THE_DOCTOR = new Set(["MetadataMismatch", "Conflict", "PoolUnhealthy", "KernelError", "Stuck"]);

/** `reveal(name)` shows another device. */
export function details(item, events, now, reveal) {
  const { metadata: { name }, spec, status, record } = item;
  const origin = originOf(item);
  const link = origin && make("button", { type: "button", class: "link", onclick: () => reveal(origin) }, origin);
  const facts = [
    ["dm name", status?.dmName],
    ["UUID", status?.uuid],
    ["thin id", status?.deviceId],
    ["snapshot of", link],
    ["file system", filesystem(spec)],
    ["size", status && exact(status.sizeBytes)],
    ["mapped", status && exact(status.mappedBytes)],
    ["since", status && since(status.since, now)],
    ["held by", status?.holders?.join(", ")],
    ["record", record && `${record.file}:${record.line}`],
  ];
  const known = facts.filter(([, value]) => value !== null && value !== undefined && value !== "");
  const own = events.filter((event) => event.object.name === name).slice(-EVENTS).reverse();
  return make("div", { class: "details" },
    make("p", { class: "message" }, ...said(item)),
    make("dl", { class: "known" }, ...known.map(([term, value]) => fact(term, value))),
    make("div", { class: "next" }, make("h3", {}, "To look closer"), ...commands(item).map(command)),
    make("div", { class: "last" }, make("h3", {}, "Last events"),
      own.length > 0 ? make("ol", { class: "events" }, ...own.map((event) => eventElement(event))) : make("p", { class: "quiet" }, "none")));
}

function fact(term, value) {
  const shown = value.nodeType ? value : String(value);
  const exactly = ["dm name", "UUID"].includes(term) ? "name" : null;
  return make("div", { class: term === "UUID" ? "wide" : null }, make("dt", {}, term), make("dd", { class: exactly }, shown));
}

function said(item) {
  const mark = markOf(item);
  if (item.status === null) return [MARKS[mark].words];
  const { reason, message } = item.status;
  return mark === "ok" ? [make("strong", {}, MARKS.ok.words)] : [make("strong", {}, reason), ` ${message}`];
}

function commands({ metadata: { name }, status }) {
  const lines = [`dm-reconciler describe device ${name}`, `dm-reconciler events ${name}`];
  return FOR_THE_DOCTOR.has(status?.reason) ? [...lines, "dm-reconciler doctor"] : lines;
}

const filesystem = (spec) => spec?.filesystem && [spec.filesystem.type, spec.filesystem.label].filter(Boolean).join(", ");
const exact = (bytes) => bytes !== null && `${size(bytes)} (${bytes.toLocaleString("en")} bytes)`;

function since(text, now) {
  const moment = new Date(text);
  return `${clock(moment)}, for ${duration((now - moment) / 1000)}`;
}

// The first line: whether everything is as it should be; and what keeps the daemon itself from its work.

import { byId, make, place, setAttribute, setText } from "./dom.js";
import { MARKS, count, markOf } from "./words.js";

const OFFENDERS = 8;

/** Gives its line, for the title of the window. `reveal(name)` shows a device. */
export function renderVerdict(daemon, pools, devices, reveal) {
  const numbers = { ok: 0, wrong: 0, left: 0, unknown: 0 };
  for (const item of [...pools, ...devices]) numbers[markOf(item)] += 1;
  const [mark, words] = judge(daemon.status, numbers);
  show(mark, words, counts(pools.length, devices.length, numbers));
  renderOffenders([...pools, ...devices].filter((item) => markOf(item) === "wrong"), reveal);
  renderTroubles(daemon.status);
  return `${MARKS[mark].symbol} ${words}`;
}

function judge(daemon, numbers) {
  const all = Object.values(numbers).reduce((sum, number) => sum + number, 0);
  if (!daemon.healthy) return ["wrong", "The reconciler does not turn"];
  if (numbers.wrong > 0) return ["wrong", `${count(numbers.wrong, "record")} of ${all.toLocaleString("en")} not as desired`];
  if (daemon.manifestProblems.length > 0) return ["wrong", "The manifests are invalid"];
  if (!daemon.ready) return ["unknown", "The reconciler is not ready"];
  if (numbers.unknown > 0) return ["unknown", "Not known yet"];
  if (all === 0) return ["left", "Nothing is declared"];
  return ["ok", "Everything is as desired"];
}

function counts(pools, devices, numbers) {
  const parts = Object.entries(numbers).filter(([, number]) => number > 0)
    .map(([mark, number]) => `${number.toLocaleString("en")} ${MARKS[mark].words}`);
  return `${count(pools, "pool")}, ${count(devices, "device")}${parts.length > 0 ? `: ${parts.join(", ")}` : ""}`;
}

function show(mark, words, beneath) {
  setAttribute(byId("verdict"), "data-mark", mark);
  setAttribute(byId("verdict-mark"), "data-mark", mark);
  setText(byId("verdict-mark"), MARKS[mark].symbol);
  setText(byId("verdict-words"), words);
  setText(byId("verdict-counts"), beneath);
}

let offending = "";

/** The first of what is not as desired, by name and reason. */
function renderOffenders(items, reveal) {
  const first = items.slice(0, OFFENDERS);
  const content = JSON.stringify([items.length, first.map((item) => [item.metadata.name, item.status.reason])]);
  if (content === offending) return;
  offending = content;
  const nodes = first.map((item) => make("li", {}, nameOf(item, reveal), ` ${item.status.reason}`));
  if (items.length > OFFENDERS) nodes.push(make("li", { class: "quiet" }, `and ${items.length - OFFENDERS} more`));
  place(byId("offenders"), nodes);
}

function nameOf({ kind, metadata: { name } }, reveal) {
  if (kind !== "ThinDevice") return make("span", { class: "name" }, name);
  return make("button", { type: "button", class: "link name", onclick: () => reveal(name) }, name);
}

let told = "";

function renderTroubles(daemon) {
  const content = JSON.stringify([daemon.message, daemon.observeOnly, daemon.manifestProblems]);
  if (content === told) return;
  told = content;
  const nodes = [];
  if (daemon.message) nodes.push(make("p", {}, make("strong", {}, "! The reconciler: "), daemon.message));
  if (daemon.observeOnly) {
    nodes.push(make("p", {}, make("strong", {}, "! It only observes: "), "nothing is done (", make("code", {}, "--observe"), ")."));
  }
  if (daemon.manifestProblems.length > 0) {
    nodes.push(make("div", {},
      make("p", {}, make("strong", {}, "! The manifests are invalid: "), "the last good set stays in force until this is put right."),
      make("ul", {}, ...daemon.manifestProblems.map((problem) => make("li", {}, make("code", {}, problem))))));
  }
  place(byId("troubles"), nodes);
}

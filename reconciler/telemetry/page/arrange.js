// Which devices are shown, and in which order. Knows nothing of elements.

import { MARKS, desiredOf, markOf, originOf } from "./words.js";

const WORST_FIRST = ["wrong", "unknown", "left", "ok"];
const NAMES = new Intl.Collator("en", { numeric: true });

export const COLUMNS = [
  { id: "name", title: "Name", value: (item) => item.metadata.name },
  { id: "ready", title: "Ready", value: (item) => WORST_FIRST.indexOf(markOf(item)) },
  { id: "desired", title: "Desired", value: desiredOf },
  { id: "live", title: "Live", value: (item) => item.status?.live ?? null },
  { id: "reason", title: "Reason", value: (item) => item.status?.reason ?? null },
  { id: "size", title: "Size", value: (item) => item.status?.sizeBytes ?? null, number: true, mostFirst: true },
  { id: "mapped", title: "Mapped", value: (item) => item.status?.mappedBytes ?? null, number: true, mostFirst: true },
  { id: "since", title: "Since", value: (item) => item.status?.since ?? null, mostFirst: true },
];

/**
 * The rows to show, each as {item, depth, context}: context is an origin that stands there only for its snapshots.
 * `view` is {text, onlyWrong, tree, column, descending}. A tree is in the order of names.
 */
export function arrange(items, view) {
  const fits = filter(view);
  if (!view.tree) {
    return items.filter(fits).sort(order(view)).map((item) => ({ item, depth: 0, context: false }));
  }
  return grown(items, fits, order(view));
}

function filter({ text, onlyWrong }) {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  return (item) => {
    if (onlyWrong && !["wrong", "unknown"].includes(markOf(item))) return false;
    if (words.length === 0) return true;
    const said = saidOf(item);
    return words.every((word) => said.includes(word));
  };
}

function saidOf(item) {
  const { status } = item;
  const parts = [item.metadata.name, desiredOf(item), MARKS[markOf(item)].words, originOf(item)];
  if (status !== null) parts.push(status.live, status.reason, status.message, status.dmName, status.uuid);
  return parts.join("\n").toLowerCase();
}

/** What nobody knows comes last, whichever way it goes. */
function order({ column, descending }) {
  const { value } = COLUMNS.find((one) => one.id === column);
  const sign = descending ? -1 : 1;
  return (left, right) => {
    const [a, b] = [value(left), value(right)];
    if ((a === null) !== (b === null)) return a === null ? 1 : -1;
    const compared = typeof a === "number" ? a - b : NAMES.compare(a ?? "", b ?? "");
    return compared * sign || NAMES.compare(left.metadata.name, right.metadata.name);
  };
}

/** Origins above their snapshots. */
function grown(items, fits, compare) {
  const known = new Map(items.map((item) => [item.metadata.name, item]));
  const wanted = withOrigins(items.filter(fits), known);
  const children = new Map();
  for (const item of wanted) {
    const origin = originOf(item);
    const above = wanted.has(known.get(origin)) ? origin : null;
    if (!children.has(above)) children.set(above, []);
    children.get(above).push(item);
  }
  const rows = [], placed = new Set();
  const stack = reversed(children.get(null), compare).map((item) => ({ item, depth: 0 }));
  while (stack.length > 0) {
    const { item, depth } = stack.pop();
    placed.add(item);
    rows.push({ item, depth, context: !fits(item) });
    for (const child of reversed(children.get(item.metadata.name), compare)) {
      stack.push({ item: child, depth: depth + 1 });
    }
  }
  // Records cannot be their own origin; should the daemon ever say so, they are shown all the same.
  for (const item of wanted) if (!placed.has(item)) rows.push({ item, depth: 0, context: !fits(item) });
  return rows;
}

const reversed = (items, compare) => (items ?? []).sort(compare).reverse();

function withOrigins(items, known) {
  const wanted = new Set(items);
  for (const item of items) {
    let origin = known.get(originOf(item));
    while (origin !== undefined && !wanted.has(origin)) {
      wanted.add(origin);
      origin = known.get(originOf(origin));
    }
  }
  return wanted;
}

// What is said of records: marks, sizes, times. The same words as those of the commands.

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

export const MARKS = {
  ok: { symbol: "✓", words: "as desired" },
  wrong: { symbol: "!", words: "not as desired" },
  left: { symbol: "–", words: "left alone on purpose" },
  unknown: { symbol: "?", words: "not looked at yet" },
};

/** Which of the marks a record has. */
export function markOf(item) {
  if (item.status === null) return "unknown";
  if (item.status.ready) return "ok";
  return item.status.good ? "left" : "wrong";
}

export const poolOf = (item) => item.metadata.name.split("/", 1)[0];
export const desiredOf = (item) => (item.spec === null ? "no record" : (item.spec.state ?? "Active"));

/** The full name of the device that it is a snapshot of; null where it is none. */
export function originOf(item) {
  const origin = item.status?.snapshotOf ?? item.spec?.snapshotOf ?? null;
  return origin === null ? null : `${poolOf(item)}/${origin}`;
}

/** `7.1 GiB`, rounded down. */
export function size(bytes) {
  if (bytes === null || bytes === undefined) return "–";
  let value = bytes, unit = 0;
  while (value >= 1024 && unit < UNITS.length - 1) [value, unit] = [value / 1024, unit + 1];
  const digits = value < 10 && unit > 0 ? Math.floor(value * 10) / 10 : Math.floor(value);
  return `${digits}\u00a0${UNITS[unit]}`;
}

/** Whole percent: what is shown as 100 is full, what is shown as 0 is empty. Null where nobody knows. */
export function percent(used, total) {
  if (used === null || used === undefined || !total) return null;
  return Math.min(100, Math.max(Math.floor((used * 100) / total), used > 0 ? 1 : 0));
}

/** `5 s`, `3 h 12 min`, `4 d`: at most two units. */
export function duration(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const minutes = Math.floor(whole / 60), hours = Math.floor(whole / 3600);
  if (whole < 120) return `${whole}\u00a0s`;
  if (minutes < 120) return `${minutes}\u00a0min`;
  if (hours < 48) return minutes % 60 ? `${hours}\u00a0h ${minutes % 60}\u00a0min` : `${hours}\u00a0h`;
  return `${Math.floor(hours / 24)}\u00a0d`;
}

/** How long healing took: finer than an age. */
export const took = (seconds) => (seconds < 10 ? `${seconds.toFixed(2)}\u00a0s` : duration(seconds));

/** `14:03:59` of today, with the date of any other day; local time. */
export function clock(moment, now = new Date()) {
  const two = (number) => String(number).padStart(2, "0");
  const time = `${two(moment.getHours())}:${two(moment.getMinutes())}:${two(moment.getSeconds())}`;
  if (moment.toDateString() === now.toDateString()) return time;
  return `${moment.getFullYear()}-${two(moment.getMonth() + 1)}-${two(moment.getDate())} ${time}`;
}

export const count = (number, one, many = `${one}s`) => `${number.toLocaleString("en")} ${number === 1 ? one : many}`;

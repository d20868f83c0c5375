// Asks the daemon, again and again while somebody looks, and tells what it said or that it said nothing.

// Relative, so that a proxy may serve the page under a path of its own.
const PATHS = { daemon: "api/v1/daemon", pools: "api/v1/pools", devices: "api/v1/devices", events: "api/v1/events" };
const LEAST_PAUSE = 1000;
const MOST_PAUSE = 5000;
const PATIENCE = 10000;
/** A pause is so many times as long as the round before it: who is slow to answer is asked less often. */
const REST = 3;

/** Calls `onAnswer({daemon, pools, devices, events})` after each round, `onSilence(why)` where there was none. */
export function follow(onAnswer, onSilence) {
  const kept = {};
  void forever(kept, onAnswer, onSilence);
}

async function forever(kept, onAnswer, onSilence) {
  for (;;) {
    if (document.hidden) await shown();
    const begun = performance.now();
    const why = await round(kept);
    const took = performance.now() - begun;
    if (why === null) onAnswer(Object.fromEntries(Object.entries(kept).map(([name, one]) => [name, one.items])));
    else onSilence(why);
    await pause(Math.min(MOST_PAUSE, Math.max(LEAST_PAUSE, REST * took)));
  }
}

/** One question after the other, so that a page holds one connection at a time. Null, or why there is no answer. */
async function round(kept) {
  const fresh = {};
  for (const [name, path] of Object.entries(PATHS)) {
    try {
      fresh[name] = await ask(path, kept[name]);
    } catch (error) {
      return error instanceof Refusal ? error.message : "";
    }
  }
  Object.assign(kept, fresh);
  return null;
}

class Refusal extends Error {}

/** What is there, asked for only if it has changed. */
async function ask(path, before) {
  const headers = before?.tag ? { "If-None-Match": before.tag } : {};
  const answer = await fetch(path, { headers, cache: "no-store", signal: AbortSignal.timeout(PATIENCE) });
  if (answer.status === 304) return before;
  if (!answer.ok) throw new Refusal(`${path}: ${answer.status} ${answer.statusText}`);
  return { tag: answer.headers.get("ETag"), items: (await answer.json()).items };
}

function shown() {
  return new Promise((resolve) => document.addEventListener("visibilitychange", resolve, { once: true }));
}

function pause(milliseconds) {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

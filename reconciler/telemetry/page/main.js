// The page: what the daemon says is shown as it comes; what people do is looked after by the parts.

import { filterFor, renderDevices, reveal, startDevices, stepBack } from "./devices.js";
import { byId, setAttribute, setText } from "./dom.js";
import { renderEvents, startEvents } from "./events.js";
import { follow } from "./feed.js";
import { renderPools } from "./pools.js";
import { renderVerdict } from "./verdict.js";
import { clock } from "./words.js";

/** Milliseconds without an answer after which what is shown is called stale, whatever the reason. */
const STALE = 15000;

const heard = { at: null, silent: null, title: "", node: "", lookedAgain: performance.now() };

function answered({ daemon: [daemon], pools, devices, events }) {
  heard.at = new Date();
  heard.silent = null;
  heard.node = daemon.metadata.name;
  // Ages are counted by the daemon's clock, which need not be that of who looks.
  const now = new Date(daemon.status.time);
  heard.title = renderVerdict(daemon, pools, devices, reveal);
  setText(byId("node"), heard.node);
  renderPools(pools, devices, (pool) => filterFor(`${pool}/`));
  renderDevices(devices, events, now);
  renderEvents(events);
  renderFreshness();
}

function silence(why) {
  heard.silent = why;
  renderFreshness();
}

function renderFreshness() {
  const waited = performance.now() - heard.lookedAgain;
  const age = heard.at === null ? waited : Math.min(new Date() - heard.at, waited);
  const stale = heard.silent !== null || age > STALE;
  const since = heard.at === null ? "" : clock(heard.at);
  byId("stale").hidden = !stale;
  setAttribute(document.documentElement, "data-stale", stale ? "yes" : null);
  if (stale) {
    const why = heard.silent ? ` (${heard.silent})` : "";
    const old = since ? ` What is shown below is from ${since}.` : "";
    setText(byId("stale"), `! The daemon does not answer${why}.${old} This page goes on asking.`);
    setText(byId("freshness"), since ? `no answer since ${since}` : "no answer");
  } else if (heard.at !== null) {
    setText(byId("freshness"), `live, as of ${since}`);
  }
  document.title = `${stale ? "× No answer" : heard.title || "…"} · dm-reconciler ${heard.node}`.trim();
}

function pressed(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "Escape") {
    stepBack();
  } else if (event.key === "/" && !event.target.matches("input[type=search], select")) {
    event.preventDefault();
    byId("filter").focus();
    byId("filter").select();
  }
}

startDevices();
startEvents(reveal);
document.addEventListener("keydown", pressed);
document.addEventListener("visibilitychange", () => { heard.lookedAgain = performance.now(); });
setInterval(renderFreshness, 1000);
follow(answered, silence);

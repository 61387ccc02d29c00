// Keeps a page fresh: asks the API whether anything has changed, then fetches the page again and swaps the parts that
// have. In between it lets times of day move on. A page that nobody sees is left alone.
"use strict";
const EVERY = 2000;
const status = document.currentScript.dataset.status;
const note = document.getElementById("fresh");
const shown = new Map(parts(document).map((part) => [part.id, part.outerHTML]));
let revision = null;
let skew = 0;

function parts(page) {
  return [...page.querySelectorAll("[data-live]")];
}

async function ask(url) {
  const answer = await fetch(url, { cache: "no-store", signal: AbortSignal.timeout(10000) });
  if (!answer.ok) throw new Error(`${answer.status} ${answer.statusText}`);
  return answer;
}

async function refresh() {
  try {
    const now = await (await ask(status)).json();
    skew = now.now - Date.now() / 1000;
    if (now.revision !== revision) {
      const page = await (await ask(location.href)).text();
      swap(new DOMParser().parseFromString(page, "text/html"));
      revision = now.revision;
    }
    say("");
  } catch (error) {
    say(`Not refreshed: ${error.message}. What is shown is old.`);
  }
}

// A screen reader repeats what is written here, so it is written only when it changes.
function say(words) {
  if (note.textContent !== words) note.textContent = words;
  document.body.classList.toggle("stale", words !== "");
}

function swap(page) {
  document.title = page.title;
  const fresh = parts(page);
  // What a person has opened stays open, and what has the focus keeps it.
  for (const details of page.querySelectorAll("details[id]")) {
    const before = document.getElementById(details.id);
    if (before) details.open = before.open;
  }
  const texts = new Map(fresh.map((part) => [part.id, part.outerHTML]));
  const focused = document.activeElement?.id;
  const same = fresh.length === shown.size && fresh.every((part) => shown.has(part.id));
  if (same) {
    for (const part of fresh) {
      if (shown.get(part.id) !== texts.get(part.id)) document.getElementById(part.id).replaceWith(part);
    }
  } else {
    document.querySelector("main").replaceWith(page.querySelector("main"));
  }
  shown.clear();
  for (const [id, text] of texts) shown.set(id, text);
  if (focused && document.activeElement?.id !== focused) {
    document.getElementById(focused)?.focus({ preventScroll: true });
  }
}

function span(seconds) {
  const units = [["day", 86400], ["h", 3600], ["m", 60], ["s", 1]];
  const words = [];
  let left = Math.round(seconds);
  for (const [unit, length] of units) {
    const count = Math.floor(left / length);
    left -= count * length;
    if (count > 0) words.push(`${count}${unit}${unit === "day" && count > 1 ? "s" : ""}`);
  }
  return words.join(" ") || "0s";
}

function tick() {
  const now = Date.now() / 1000 + skew;
  for (const time of document.querySelectorAll("time[data-unix]")) {
    const unix = Number(time.dataset.unix);
    const words = time.className === "ago" ? `${span(Math.max(0, now - unix))} ago` : unix <= now ? "now" : `in ${span(unix - now)}`;
    if (time.textContent !== words) time.textContent = words;
  }
}

async function live() {
  if (!document.hidden) {
    await refresh();
    tick();
  }
  setTimeout(live, EVERY);
}

setInterval(() => document.hidden || tick(), 1000);
setTimeout(live, EVERY);

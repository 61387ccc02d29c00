// Keeps the page fresh: fetches it again and swaps what is live. Without JavaScript it reloads itself.
"use strict";
const EVERY = 2000;
async function refresh() {
  try {
    const answer = await fetch(location.href, { cache: "no-store", signal: AbortSignal.timeout(10000) });
    if (!answer.ok) throw new Error(answer.statusText);
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const fresh = page.getElementById("live");
    const live = document.getElementById("live");
    const scrolled = live.querySelector(".scroll").scrollLeft;
    live.replaceChildren(...fresh.childNodes);
    live.querySelector(".scroll").scrollLeft = scrolled;
  } catch (error) {
    document.querySelector("[role=status]").textContent = `Not refreshed: ${error.message}`;
  }
  setTimeout(refresh, EVERY);
}
setTimeout(refresh, EVERY);

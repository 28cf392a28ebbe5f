// The live stream (docs/live.md): parts of a page fetch themselves anew when something happens to what they show.
// Without it, or while run_live is away, a page is as it was: parts that change soon ask every few seconds.
"use strict";

{
  const { project, send } = document.currentScript.dataset;
  const html = document.documentElement;
  const csrf = () => document.querySelector("input[name=csrfmiddlewaretoken]")?.value ?? "";

  const HIDDEN_MS = 60_000; // a page that nobody looks at lets go of its stream
  const BUSY_MS = 2_000; // between looks whether a part may be replaced
  const LONGEST_MS = 300_000; // between tries to reach a server that is away
  const GIVE_UP = [4403, 4404, 4422, 4400, 1008];

  let socket = null;
  let last = null; // the event to go on after
  let wait = 1_000; // until a lost stream is opened again
  let failures = 0;
  let opening = null;
  let leaving = null;

  // --- The stream

  async function open() {
    opening = null;
    if (socket || document.hidden) return;
    const answer = await askForToken();
    if (!answer || socket) return;
    const query = new URLSearchParams({ token: answer.token });
    if (last !== null) query.set("after", last);
    if (send) query.set("send_id", send);
    socket = new WebSocket(`${answer.websocket_url}?${query}`);
    socket.addEventListener("message", (message) => take(JSON.parse(message.data)));
    socket.addEventListener("close", (closed) => lose(closed.code));
  }

  async function askForToken() {
    try {
      const answer = await fetch("/api/console/live/token", {
        method: "POST",
        headers: { "X-Project-ID": project, "X-CSRFToken": csrf() },
      });
      if (answer.ok) return await answer.json();
      if (answer.status === 429 || answer.status >= 500) openLater();
    } catch {
      openLater();
    }
    return null;
  }

  function take(told) {
    if (told.event === "hello") {
      failures = 0;
      wait = told.retry;
      html.dataset.streaming = "";
      if (last === null || !told.complete) move("send."); // what happened since the page was made
      last = told.id;
    } else if (told.event === "shutdown") {
      wait = told.retry;
    } else if (told.id) {
      last = told.id;
      move(told.event);
    }
  }

  function lose(code) {
    socket = null;
    delete html.dataset.streaming;
    if (!GIVE_UP.includes(code)) openLater();
  }

  function openLater() {
    failures += 1;
    const backed = failures > 1 ? Math.min(2_000 * 2 ** failures, LONGEST_MS) * (0.5 + Math.random() / 2) : wait;
    opening ??= setTimeout(open, backed);
  }

  document.addEventListener("visibilitychange", () => {
    clearTimeout(leaving);
    if (document.hidden) leaving = setTimeout(() => socket?.close(), HIDDEN_MS);
    else if (!socket && opening === null) open();
  });

  // --- The parts

  const due = new Map(); // id of a part → the timer of its next fetching

  function move(kind) {
    for (const part of document.querySelectorAll("[data-moves]")) {
      if (kind.startsWith(part.dataset.moves)) fetchSoon(part.id, 0);
    }
  }

  function fetchSoon(id, delay) {
    if (due.has(id)) {
      due.get(id).again = true;
      return;
    }
    const one = { again: false };
    due.set(id, one);
    setTimeout(() => {
      const part = document.getElementById(id);
      if (part && isBusy(part)) one.again = true;
      else if (part) fetchPart(part);
      // a burst of events shares the fetching at its end
      const pause = Number(part?.dataset.movesMs ?? 1_000);
      setTimeout(() => {
        due.delete(id);
        if (one.again && document.getElementById(id)) fetchSoon(id, 0);
      }, part && isBusy(part) ? BUSY_MS : pause);
    }, delay);
  }

  function fetchPart(part) {
    if (!tellOfNews(part)) htmx.trigger(part, "moved");
  }

  // Rows that somebody loaded would be gone with a new part: it only says that there is one
  function tellOfNews(part) {
    const news = part.querySelector("[data-news]");
    const isPaged = part.querySelectorAll("tbody:not(.more)").length > 1;
    if (news && isPaged) news.hidden = false;
    return Boolean(news && isPaged);
  }

  document.addEventListener("htmx:beforeSwap", (event) => {
    const part = event.detail.requestConfig.elt;
    if (part === event.detail.target && part.matches("[data-moves]") && tellOfNews(part)) event.detail.shouldSwap = false;
  });

  // Somebody reads, types or marks something in it
  function isBusy(part) {
    const active = document.activeElement;
    const types = part.contains(active) && active.matches("input, select, textarea");
    const marks = !getSelection().isCollapsed && getSelection().containsNode(part, true);
    return document.hidden || types || marks || part.querySelector("details[data-opened]") !== null;
  }

  // What the stream tells of need not be asked for every few seconds
  document.addEventListener("htmx:beforeRequest", (event) => {
    const asksByItself = event.target.matches("[data-moves]") && !event.detail.requestConfig.triggeringEvent;
    if (asksByItself && html.dataset.streaming !== undefined) event.preventDefault();
  });

  open();
}

// The console's own script: menus, the theme, copy buttons, typed confirmations. Every page works without it.
"use strict";

const root = document.documentElement;

document.addEventListener("click", (event) => {
  const target = event.target instanceof Element ? event.target : null;
  if (!target) return;
  closeOtherMenus(target);
  const copy = target.closest("[data-copy]");
  if (copy) copyValue(copy);
  const opener = target.closest("[data-opens]");
  if (opener) toggleNavigation(opener);
});

document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  for (const menu of document.querySelectorAll("details[data-menu][open]")) {
    menu.open = false;
    menu.querySelector("summary").focus();
  }
});

function closeOtherMenus(target) {
  for (const menu of document.querySelectorAll("details[data-menu][open]")) {
    if (!menu.contains(target)) menu.open = false;
  }
}

// Navigation on a phone

function toggleNavigation(opener) {
  const navigation = document.getElementById(opener.dataset.opens);
  const open = navigation.toggleAttribute("data-open");
  opener.setAttribute("aria-expanded", String(open));
}

// Copying

async function copyValue(button) {
  const source = button.dataset.copy ? document.getElementById(button.dataset.copy) : button.previousElementSibling;
  const text = source.textContent.trim();
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    selectText(source); // no clipboard outside https: leave the text selected for Ctrl-C
    return;
  }
  const label = button.querySelector("span") ?? button;
  const before = label.textContent;
  button.dataset.copied = "";
  label.textContent = "Copied";
  setTimeout(() => {
    delete button.dataset.copied;
    label.textContent = before;
  }, 1600);
}

function selectText(element) {
  const range = document.createRange();
  range.selectNodeContents(element);
  const selection = getSelection();
  selection.removeAllRanges();
  selection.addRange(range);
}

// Theme: the same cookie that the form would set, without the way to the server

document.addEventListener("submit", (event) => {
  const form = event.target;
  if (!(form instanceof HTMLFormElement) || !form.matches("[data-theme-form]") || !event.submitter) return;
  event.preventDefault();
  const theme = event.submitter.value;
  const secure = location.protocol === "https:" ? "; secure" : "";
  document.cookie = `relay_theme=${theme}; path=/; max-age=31536000; samesite=lax${secure}`;
  if (theme === "system") delete root.dataset.theme;
  else root.dataset.theme = theme;
  for (const button of form.querySelectorAll("button")) {
    button.setAttribute("aria-pressed", String(button === event.submitter));
  }
  const menu = form.closest("details");
  const summary = menu.querySelector("summary");
  summary.replaceChildren(event.submitter.querySelector("svg").cloneNode(true));
  summary.setAttribute("aria-label", `Theme: ${theme}`);
  menu.open = false;
  summary.focus();
});

// A destructive button wakes when its word has been typed

document.addEventListener("input", (event) => {
  const field = event.target;
  if (!(field instanceof HTMLInputElement) || field.dataset.mustEqual === undefined) return;
  field.form.querySelector("[data-guarded]").disabled = field.value.trim() !== field.dataset.mustEqual;
});

function readyPage() {
  for (const field of document.querySelectorAll("[data-must-equal]")) {
    field.form.querySelector("[data-guarded]").disabled = field.value.trim() !== field.dataset.mustEqual;
  }
  // Presets of check boxes: a button names the values to tick.
  for (const button of document.querySelectorAll("[data-ticks]")) {
    button.hidden = false;
  }
  // The address bar forgets a page that must not be loaded twice (the new key).
  const settled = document.querySelector("[data-settles-at]");
  if (settled) history.replaceState(null, "", settled.dataset.settlesAt);
}

document.addEventListener("click", (event) => {
  const button = event.target instanceof Element ? event.target.closest("[data-ticks]") : null;
  if (!button) return;
  const values = new Set(button.dataset.ticks.split(" "));
  for (const box of button.closest("fieldset").querySelectorAll("input[type=checkbox]")) {
    box.checked = values.has(box.value);
  }
});

// A live part is left alone while somebody reads something they opened in it

document.addEventListener("htmx:beforeRequest", (event) => {
  const part = event.target;
  if (part.matches("[data-live]") && (document.hidden || part.querySelector("details[data-opened]"))) event.preventDefault();
});
document.addEventListener("click", (event) => {
  const summary = event.target instanceof Element ? event.target.closest("[data-live] summary") : null;
  if (summary) summary.parentElement.toggleAttribute("data-opened", !summary.parentElement.open);
});

readyPage();

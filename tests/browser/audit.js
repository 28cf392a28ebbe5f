// What can be measured about a page's legibility: returns a list of complaints.
() => {
  const complaints = [];
  const shown = (element) => {
    const box = element.getBoundingClientRect();
    return box.width > 1 && box.height > 1 && getComputedStyle(element).visibility !== "hidden" && !element.closest("[hidden], iframe, svg");
  };
  const name = (element) => `<${element.tagName.toLowerCase()} class="${element.className}"> ${element.textContent.trim().slice(0, 40)}`;

  // Every field and every control has a name.
  for (const field of document.querySelectorAll("input:not([type=hidden]), select, textarea")) {
    if (!field.labels?.length && !field.getAttribute("aria-label")) complaints.push(`no label: ${field.name}`);
  }
  for (const control of document.querySelectorAll("button, a[href], summary")) {
    if (!control.textContent.trim() && !control.getAttribute("aria-label")) complaints.push(`no name: ${control.outerHTML.slice(0, 90)}`);
  }
  const ids = [...document.querySelectorAll("[id]")].map((element) => element.id);
  for (const id of new Set(ids)) if (ids.filter((other) => other === id).length > 1) complaints.push(`id twice: ${id}`);
  if (document.querySelectorAll("h1").length !== 1) complaints.push("not exactly one h1");
  if (!document.querySelector("main#main")) complaints.push("no main for the skip link");
  if (document.querySelector("[style], style, [onclick]")) complaints.push("inline style or handler");

  // Contrast of text against the nearest painted background (WCAG 2.2, 1.4.3).
  const channels = (colour) => {
    const canvas = document.createElement("canvas");
    canvas.width = canvas.height = 1;
    const pen = canvas.getContext("2d", { willReadFrequently: true });
    pen.fillStyle = colour;
    pen.fillRect(0, 0, 1, 1);
    return [...pen.getImageData(0, 0, 1, 1).data];
  };
  const luminance = ([red, green, blue]) => {
    const linear = [red, green, blue].map((part) => (part / 255 <= 0.04045 ? part / 255 / 12.92 : ((part / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
  };
  const background = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = channels(getComputedStyle(at).backgroundColor);
      if (colour[3] === 255) return colour;
    }
    return [255, 255, 255, 255];
  };
  const seen = new Set();
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.textContent.trim() || !shown(element) || element.closest("button[disabled], .skip-link, .visually-hidden, noscript, option")) continue;
    const style = getComputedStyle(element);
    const key = `${style.color} ${background(element)} ${style.fontSize} ${style.fontWeight}`;
    if (seen.has(key)) continue;
    seen.add(key);
    const [light, dark] = [luminance(channels(style.color)), luminance(background(element))].sort((a, b) => b - a);
    const ratio = (light + 0.05) / (dark + 0.05);
    const large = parseFloat(style.fontSize) >= 24 || (parseFloat(style.fontSize) >= 18.66 && Number(style.fontWeight) >= 700);
    if (ratio < (large ? 3 : 4.5)) complaints.push(`contrast ${ratio.toFixed(2)}: ${name(element)}`);
  }

  // Nothing sticks out of the window.
  const root = document.documentElement;
  if (root.scrollWidth > root.clientWidth) {
    const wide = [...document.body.querySelectorAll("*")].find((element) => element.getBoundingClientRect().right > root.clientWidth + 1 && shown(element));
    complaints.push(`overflows by ${root.scrollWidth - root.clientWidth}px: ${wide ? name(wide) : "?"}`);
  }
  return complaints;
}

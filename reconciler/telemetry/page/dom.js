// Making elements. Text comes in as text only: nothing here, or anywhere on the page, takes a string for markup.

/** An element with attributes (`onclick` and the like are listeners) and children, which are elements or text. */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined && child !== ""));
  return element;
}

export const byId = (id) => document.getElementById(id);

/** Writes only what has changed: what is live for screen readers must not be said twice. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function setAttribute(element, name, value) {
  if (value === null) element.removeAttribute(name);
  else if (element.getAttribute(name) !== value) element.setAttribute(name, value);
}

/** These nodes and no others, in this order. Those that are in place already are not touched, and focus stays. */
export function place(parent, nodes) {
  const focused = document.activeElement;
  const wanted = new Set(nodes);
  for (const child of [...parent.childNodes]) if (!wanted.has(child)) child.remove();
  let next = parent.firstChild;
  for (const node of nodes) {
    if (node === next) next = next.nextSibling;
    else parent.insertBefore(node, next);
  }
  if (focused !== document.activeElement && focused.isConnected) focused.focus({ preventScroll: true });
}

/** A mark says by its shape what a colour would say. */
export function markElement(mark, symbol) {
  return make("span", { class: "mark", "data-mark": mark, "aria-hidden": "true" }, symbol);
}

/** A command as it is typed: a click selects all of it. */
export function command(line) {
  const code = make("code", { class: "command", tabindex: "0" }, line);
  if (!navigator.clipboard) return make("div", { class: "command-line" }, code);
  const button = make("button", { type: "button", class: "copy", "aria-label": `Copy ${line}` }, "Copy");
  button.addEventListener("click", async () => {
    const copied = await navigator.clipboard.writeText(line).then(() => true, () => false);
    setText(button, copied ? "Copied" : "Select and copy by hand");
    setTimeout(() => setText(button, "Copy"), 2000);
  });
  return make("div", { class: "command-line" }, code, button);
}

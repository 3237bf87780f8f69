/** The few things that every panel does with the page. */

export const $ = (selector, root = document) => root.querySelector(selector);

/** An element with attributes (properties where they exist) and children. */
export function el(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name in element) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

/** Set text only when it changes: the layout is not disturbed twelve times a second. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** A canvas context whose unit is one CSS pixel, sized to the element; returns `[context, width, height]`. */
export function context2d(canvas) {
  const scale = Math.min(devicePixelRatio || 1, 2);
  const width = canvas.clientWidth;
  const height = canvas.clientHeight;
  const [w, h] = [Math.round(width * scale), Math.round(height * scale)];
  if (canvas.width !== w || canvas.height !== h) [canvas.width, canvas.height] = [w, h];
  const context = canvas.getContext("2d");
  context.setTransform(scale, 0, 0, scale, 0, 0);
  context.clearRect(0, 0, width, height);
  return [context, width, height];
}

let colours = null;

/** A colour of style.css by its variable's name, for canvases. */
export function colour(name) {
  if (colours === null) {
    colours = new Map();
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => colours.clear());
  }
  if (!colours.has(name)) colours.set(name, getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim());
  return colours.get(name);
}

/** `front_wide` as people read it. */
export function humanName(name) {
  return name.replaceAll("_", " ");
}

// Building blocks of the screens: elements, headings that take the focus, images, downloads.

function element(name, attributes, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) {
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (value !== null && value !== false) node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null));
  return node;
}

function button(label, onclick, attributes) {
  return element("button", { type: "button", onclick, ...attributes }, label);
}

function textOf(name) {
  return document.getElementById(`text-${name}`).content.cloneNode(true);
}

// Replace the screen; the heading takes the focus, so that a screen reader begins there.
function showScreen(kind, title, ...children) {
  const heading = element("h1", { tabindex: "-1" }, title);
  const main = document.getElementById("screen");
  main.className = kind;
  main.replaceChildren(heading, ...children.filter((child) => child !== null));
  window.scrollTo(0, 0);
  heading.focus();
  return heading;
}

function decodeImage(base64) {
  const image = new Image();
  image.src = `data:image/png;base64,${base64}`;
  return image.decode().then(() => image);
}

// A canvas with every pixel as factor x factor CSS pixels: by the browser (nearest), or by Lanczos.
function drawEnlarged(image, { method, factor }) {
  const [width, height] = [image.naturalWidth, image.naturalHeight];
  const canvas = element("canvas", { width, height, "aria-hidden": "true" });
  const context = canvas.getContext("2d");
  context.drawImage(image, 0, 0);
  if (method === "lanczos") {
    const pixels = context.getImageData(0, 0, width, height).data;
    const large = enlargeLanczos(pixels, width, height, factor);
    [canvas.width, canvas.height] = [width * factor, height * factor];
    context.putImageData(new ImageData(large, canvas.width, canvas.height), 0, 0);
  }
  canvas.style.width = `${width * factor}px`;
  canvas.className = method;
  return canvas;
}

function download(name, type, text) {
  const url = URL.createObjectURL(new Blob([text], { type }));
  const link = element("a", { href: url, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}

function announce(text) {
  document.getElementById("live").textContent = text;
}

// Storage that a browser may refuse to pages of a file; then a reload begins anew.
const storage = {
  get(key) {
    try {
      return JSON.parse(window.localStorage.getItem(key));
    } catch {
      return null;
    }
  },
  set(key, value) {
    try {
      window.localStorage.setItem(key, JSON.stringify(value));
    } catch {
      // the answers are in memory, and can be downloaded at the end
    }
  },
  remove(key) {
    try {
      window.localStorage.removeItem(key);
    } catch {
      // nothing was stored
    }
  },
};

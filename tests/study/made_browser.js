// What the scripts of a page use of a browser; a test looks at `stored`, `downloads` and the screen.

const stored = {};
const downloads = [];
const nodes = {};
let window, document;

function makeNode(name) {
  const node = {
    name, children: [], listeners: {}, attributes: {}, isConnected: true,
    addEventListener: (event, act) => (node.listeners[event] = act),
    setAttribute: (key, value) => (node.attributes[key] = value),
    append: (...children) => node.children.push(...children),
    replaceChildren: (...children) => (node.children = children),
    remove: () => {},
    focus: () => {},
    click: () => (node.listeners.click || (() => {}))({ target: node }),
    get textContent() {
      return node.children.map((one) => (typeof one === "string" ? one : one.textContent)).join("");
    },
    set textContent(text) {
      node.children = [text];
    },
  };
  return node;
}

function prepare({ search, hash, stored: before, data }, reply) {
  Object.assign(stored, before);
  const makeTemplate = () => ({ content: { cloneNode: () => makeNode("template") } });
  document = {
    body: makeNode("body"),
    addEventListener: () => {},
    createElement: makeNode,
    getElementById: (id) => {
      if (id === "study") return { textContent: data };
      if (id.startsWith("text-")) return makeTemplate();
      return (nodes[id] = nodes[id] || makeNode(id));
    },
  };
  const location = { search, hash, protocol: "http:", replace: (to) => (location.hash = to) };
  window = {
    location,
    scrollTo: () => {},
    screen: { width: 800, height: 600 },
    devicePixelRatio: 1,
    crypto: { getRandomValues: (bytes) => bytes.fill(7) },
    localStorage: {
      getItem: (key) => (key in stored ? stored[key] : null),
      setItem: (key, value) => (stored[key] = value),
      removeItem: (key) => delete stored[key],
    },
  };
  globalThis.fetch = () => reply;
}

globalThis.Blob = function (parts) {
  downloads.push(parts.join(""));
};
globalThis.URL = { createObjectURL: () => "blob:", revokeObjectURL: () => {} };
globalThis.setTimeout = () => {};

function buttons(node = nodes.screen) {
  const found = node.name === "button" ? [node] : [];
  return [...found, ...node.children.flatMap((one) => (one.name ? buttons(one) : []))];
}

function press(label) {
  buttons().find((one) => one.textContent === label).click();
}

function textOnScreen() {
  return nodes.screen.textContent;
}

// Runs the script of the API page (argument 1) over an OpenAPI document (argument 2), in the smallest DOM that it can do
// with, and prints what a reader gets: {"text": ..., "ids": [...], "links": [...], "errors": [...]}.
"use strict";
const fs = require("node:fs");
const vm = require("node:vm");

const [, , pageFile, documentFile] = process.argv;
const page = fs.readFileSync(pageFile, "utf8");
const script = /<script>([^]*)<\/script>/.exec(page)[1];

class Element {
  constructor(tag) {
    this.tagName = tag.toUpperCase();
    this.children = [];
  }
  append(...children) {
    this.children.push(...children);
  }
  replaceWith(...others) {
    this.children = others;
  }
  get textContent() {
    return this.children.map((child) => (child instanceof Element ? child.textContent : String(child))).join("");
  }
  set textContent(text) {
    this.children = [text];
  }
  querySelector(tag) {
    return all(this).find((element) => element.tagName === tag.toUpperCase());
  }
}
const all = (element) =>
  element.children.filter((child) => child instanceof Element).flatMap((child) => [child, ...all(child)]);

const fixed = { title: new Element("h1"), about: new Element("p"), main: new Element("main") };
const body = new Element("body");
body.append(fixed.title, fixed.about, fixed.main);
const errors = [];
const context = {
  document: {
    createElement: (tag) => new Element(tag),
    getElementById: (id) => fixed[id] ?? all(body).find((element) => element.id === id),
    querySelector: (tag) => fixed[tag],
  },
  window: { addEventListener() {} },
  location: { hash: "" },
  decodeURIComponent,
  fetch: async (url) => {
    if (url !== "openapi.json") errors.push(`fetched ${url}`);
    return { json: async () => JSON.parse(fs.readFileSync(documentFile, "utf8")) };
  },
};
vm.runInNewContext(script, context);
setImmediate(() => {
  const elements = all(body);
  const links = elements.map((element) => element.href).filter(Boolean);
  const ids = elements.map((element) => element.id).filter(Boolean);
  console.log(JSON.stringify({ text: elements.map((element) => element.textContent).join("\n"), ids, links, errors }));
});

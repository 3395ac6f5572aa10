"use strict";

// The page asks the gate what there is (openapi.json), and makes calls to the gate that
// it came from. It keeps nothing.

const root = "/api/v1/objects/";
const jsonType = "application/json";
const at = (id) => document.getElementById(id);

let doc = null; // the OpenAPI document
let types = new Map(); // type name -> operations: {name, path, verb, operation, canGet}
let shown = ""; // the type and method that the editor is for
const written = new Map(); // the requests of others that a person has looked at

async function load() {
  try {
    const answer = await fetch("/api/v1/openapi.json", { headers: identity() });
    const body = await answer.json();
    if (!answer.ok) throw new Error(body.error);
    doc = body;
  } catch (problem) {
    at("about").textContent = "What types there are is not known: " + problem.message;
    return;
  }
  types = operationsOf(doc);
  const silent = doc["x-goverse-silent-nodes"];
  at("about").textContent = types.size + (types.size === 1 ? " type" : " types") + (silent ? "; " + silent + " nodes do not say what they have" : "");
  fill(at("type"), [...types.keys()]);
  const [type, id, method] = location.hash.slice(1).split("/").map(decoded);
  if (types.has(type)) at("type").value = type;
  if (id) at("id").value = id;
  chooseType();
  if (method && current() && types.get(at("type").value).some((o) => o.name === method)) {
    at("method").value = method;
    chooseMethod();
  }
  for (const id of ["type", "method", "send"]) at(id).disabled = types.size === 0;
}

// decoded is the text that a person's link says, or the link's own words.
function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

// operationsOf finds what can be done with objects, by type.
function operationsOf(doc) {
  const found = new Map();
  for (const [path, item] of Object.entries(doc.paths)) {
    if (!path.startsWith(root)) continue;
    const [type, , method] = path.slice(root.length).split("/").map(decodeURIComponent);
    const list = found.get(type) ?? [];
    found.set(type, list);
    if (method !== undefined) list.push({ name: method, path, verb: "POST", operation: item.post, canGet: Boolean(item.get) });
    if (item.put) list.push({ name: "(create)", path, verb: "PUT", operation: item.put });
    if (item.delete) list.push({ name: "(delete)", path, verb: "DELETE", operation: item.delete });
  }
  for (const list of found.values()) list.sort((a, b) => a.name.startsWith("(") - b.name.startsWith("(") || (a.name < b.name ? -1 : 1));
  return new Map([...found].sort((a, b) => (a[0] < b[0] ? -1 : 1)));
}

function fill(select, names) {
  select.replaceChildren(...names.map((name) => new Option(name, name)));
}

const current = () => types.get(at("type").value)?.find((o) => o.name === at("method").value);

function chooseType() {
  fill(at("method"), (types.get(at("type").value) ?? []).map((o) => o.name));
  chooseMethod();
}

function chooseMethod() {
  const o = current();
  if (!o) return;
  at("get").disabled = !o.canGet;
  if (!o.canGet) at("get").checked = false;
  const schema = requestSchema(o);
  at("request").disabled = !schema;
  at("request-type").textContent = schema ? nameOf(schema) : "none";
  at("fields").replaceChildren(...fieldsOf(schema).map(([name, kind]) => {
    const line = document.createElement("li");
    const code = document.createElement("code");
    code.textContent = name;
    line.append(code, " " + kind);
    return line;
  }));
  at("fields-box").hidden = at("fields").childElementCount === 0;
  const key = at("type").value + "/" + o.name;
  if (key !== shown) {
    written.set(shown, at("request").value);
    shown = key;
    if (written.has(key)) at("request").value = written.get(key);
    else example();
  }
  show();
}

const requestSchema = (o) => o.operation.requestBody?.content[jsonType].schema;

function resolve(schema) {
  return schema.$ref ? doc.components.schemas[decodeURIComponent(schema.$ref.split("/").pop())] : schema;
}

// nameOf is a schema in a word or two.
function nameOf(schema) {
  if (schema.$ref) return schema.$ref.split("/").pop();
  if (schema.type === "array") return "list of " + nameOf(schema.items);
  if (schema.type === "object" && typeof schema.additionalProperties === "object") return "map to " + nameOf(schema.additionalProperties);
  if (schema.contentEncoding) return "bytes in base64";
  if (schema.anyOf) return nameOf(schema.anyOf[0]);
  return schema.format ?? (schema.pattern ? "duration, as 1.5s" : schema.type ?? "anything");
}

function fieldsOf(schema) {
  if (!schema) return [];
  return Object.entries(resolve(schema).properties ?? {}).map(([name, field]) => [name, nameOf(field) + choiceOf(resolve(field))]);
}

function choiceOf(schema) {
  const names = schema.anyOf?.[0]?.enum ?? schema.enum;
  return names && schema.anyOf?.[0].type === "string" ? ": " + names.join(", ") : "";
}

function example() {
  const o = current();
  const schema = o && requestSchema(o);
  at("request").value = schema ? JSON.stringify(sample(schema, 3) ?? {}, null, 2) : "";
  show();
}

// sample is a value of the schema; undefined: none comes to mind.
function sample(schema, depth) {
  const s = resolve(schema);
  if (s.anyOf) return s.anyOf[0].enum ? s.anyOf[0].enum[0] : sample(s.anyOf[0], depth);
  switch (s.type) {
    case "object":
      if (!s.properties) return {};
      if ("@type" in s.properties || depth === 0) return undefined;
      return sampleObject(s, depth);
    case "array": return [];
    case "boolean": return false;
    case "number": case "integer": return 0;
    case "null": return null;
    case "string":
      if (s.format === "date-time") return new Date().toISOString();
      return s.format ? "0" : s.pattern ? "0s" : "";
    default: return undefined;
  }
}

function sampleObject(s, depth) {
  const others = new Set(); // of several that exclude each other the first will do
  for (const choice of s.allOf ?? []) for (const one of choice.oneOf.slice(1)) for (const name of one.required ?? []) others.add(name);
  const made = {};
  for (const [name, field] of Object.entries(s.properties)) {
    const value = others.has(name) ? undefined : sample(field, depth - 1);
    if (value !== undefined) made[name] = value;
  }
  return made;
}

// identity is the headers that say who calls.
function identity() {
  return at("authorization").value ? { Authorization: at("authorization").value } : {};
}

// request is the call as fetch wants it. It throws what is wrong with what was written.
function request() {
  const o = current();
  if (!o) throw new Error("choose a type and a method");
  if (!at("id").value) throw new Error("give the object's id");
  const headers = identity();
  for (const [id, name] of [["client", "X-Client-ID"], ["call-id", "X-Goverse-Call-ID"], ["timeout", "X-Goverse-Timeout"]]) {
    if (at(id).value) headers[name] = at(id).value;
  }
  const text = at("request").disabled ? "" : at("request").value.trim();
  const value = text === "" ? undefined : JSON.parse(text);
  const path = o.path.replace("{id}", encodeURIComponent(at("id").value));
  if (at("get").checked) return { path: path + query(value), options: { method: "GET", headers } };
  const options = { method: o.verb, headers };
  if (text !== "") options.body = text;
  return { path, options };
}

// query says a request in a URL: a field each, and a.b for one of a message in it.
function query(value) {
  const all = new URLSearchParams();
  const add = (name, value) => {
    if (Array.isArray(value)) for (const one of value) add(name, one);
    else if (value !== null && typeof value === "object") for (const key of Object.keys(value)) add(name ? name + "." + key : key, value[key]);
    else if (value !== undefined && value !== null) all.append(name || "value", value);
  };
  add("", value);
  const text = all.toString();
  return text && "?" + text;
}

const quoted = (text) => "'" + text.replaceAll("'", "'\\''") + "'";

function curl({ path, options }) {
  const words = ["curl"];
  if (options.method === "PUT" || options.method === "DELETE") words.push("-X", options.method);
  if (options.method === "POST") words.push("-d", quoted(options.body ?? ""));
  for (const [name, value] of Object.entries(options.headers)) words.push("-H", quoted(name + ": " + value));
  words.push(quoted(location.origin + path));
  return words.join(" ");
}

// show brings the curl line, the page's address and what is wrong up to date.
function show() {
  let problem = "";
  try {
    at("curl").textContent = curl(request());
  } catch (wrong) {
    problem = wrong instanceof SyntaxError ? "The request is no JSON: " + wrong.message : wrong.message;
  }
  if (!doc) problem = "";
  if (at("problem").textContent !== problem) at("problem").textContent = problem;
  at("request").setAttribute("aria-invalid", String(problem.startsWith("The request")));
  if (doc) history.replaceState(null, "", "#" + [at("type").value, at("id").value, at("method").value].map(encodeURIComponent).join("/"));
  return problem === "";
}

let latest = 0; // the call whose answer is shown

async function send() {
  if (!doc || !show()) return;
  const mine = ++latest;
  const { path, options } = request();
  tell("Calling …", "");
  at("answer").textContent = "";
  const began = performance.now();
  let answer, text;
  try {
    answer = await fetch(path, options);
    text = await answer.text();
  } catch (problem) {
    if (mine === latest) tell("No answer: " + problem.message + ". Whether it ran is not known.", "bad");
    return;
  }
  if (mine !== latest) return;
  const took = Math.max(1, Math.round(performance.now() - began)) + " ms";
  let body = text;
  let failure = null;
  try {
    const value = JSON.parse(text);
    body = JSON.stringify(value, null, 2);
    if (!answer.ok) failure = value;
  } catch { /* it is shown as it is */ }
  at("answer").textContent = body;
  tell([answer.status, failure ? failure.code : "OK", failure ? "outcome " + failure.outcome : "outcome Executed", took].join(" · "), answer.ok ? "good" : "bad");
}

function tell(text, kind) {
  at("state").textContent = text;
  at("state").className = kind;
}

async function copy() {
  const text = at("curl").textContent;
  try {
    await navigator.clipboard.writeText(text);
    at("copy").textContent = "Copied";
  } catch { // not everywhere is there a clipboard: then the line is selected
    getSelection().selectAllChildren(at("curl"));
    at("copy").textContent = "Selected";
  }
  setTimeout(() => { at("copy").textContent = "Copy"; }, 1500);
}

at("type").addEventListener("change", chooseType);
at("method").addEventListener("change", chooseMethod);
at("get").addEventListener("change", show);
at("call").addEventListener("input", show);
at("call").addEventListener("submit", (event) => { event.preventDefault(); send(); });
at("example").addEventListener("click", example);
at("copy").addEventListener("click", copy);
at("authorization").addEventListener("change", () => { if (!doc) load(); });
document.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    send();
  }
});
load();

// The task API's page in a real browser: add, tick, reload, an error shown, delete, both languages, and a token.
//
//   node tests/api/page.mjs [folder for screenshots]
//
// Needs chromium and chromedriver (Debian: chromium chromium-driver). TASK_API_BIN names the service's program.
// Speaks WebDriver over plain HTTP, so there is nothing to install for Node.
import { spawn } from "node:child_process";
import { mkdtempSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import assert from "node:assert/strict";

const program = process.env.TASK_API_BIN;
assert(program, "TASK_API_BIN must name the task-api program");
const pictures = process.argv[2];
if (pictures) mkdirSync(pictures, { recursive: true });
const scratch = mkdtempSync(join(tmpdir(), "task-api-page-"));
const children = [];
const deadline = 30_000;

const freePort = () => new Promise((resolve) => {
  const server = createServer().listen(0, "127.0.0.1", () => {
    const { port } = server.address();
    server.close(() => resolve(port));
  });
});

async function until(what, attempt) {
  const started = Date.now();
  for (;;) {
    const value = await attempt().catch(() => null);
    if (value) return value;
    assert(Date.now() - started < deadline, `waited in vain: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

async function startService(extra) {
  const port = await freePort();
  const service = spawn(program, {
    env: { TASKS_HOST: "127.0.0.1", TASKS_PORT: String(port), TASKS_DATA_DIR: mkdtempSync(join(scratch, "data-")), TASKS_DRAIN_DELAY: "0", LOG_LEVEL: "warn", ...extra },
    stdio: ["ignore", "inherit", "inherit"],
  });
  children.push(service);
  const url = `http://127.0.0.1:${port}`;
  await until("the service answers", async () => (await fetch(`${url}/health`)).ok);
  return url;
}

let driver;
async function command(method, path, body) {
  const answer = await fetch(driver + path, { method, body: body && JSON.stringify(body) });
  const { value } = await answer.json();
  if (!answer.ok) throw new Error(`${path}: ${value.error}: ${value.message}`);
  return value;
}

class Browser {
  static async open(language) {
    const args = ["--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=800,700", `--lang=${language}`, `--user-data-dir=${mkdtempSync(join(scratch, "profile-"))}`];
    const options = { args, prefs: { "intl.accept_languages": language } };
    const { sessionId } = await command("POST", "/session", {
      capabilities: { alwaysMatch: { "goog:chromeOptions": options, "goog:loggingPrefs": { browser: "ALL" } } },
    });
    const browser = new Browser();
    browser.path = `/session/${sessionId}`;
    return browser;
  }
  go(url) { return command("POST", `${this.path}/url`, { url }); }
  run(script, ...args) { return command("POST", `${this.path}/execute/sync`, { script: `return (${script})(...arguments)`, args }); }
  // Real key strokes and clicks, as a person makes them.
  async element(css) {
    const found = await command("POST", `${this.path}/element`, { using: "css selector", value: css });
    return `${this.path}/element/${Object.values(found)[0]}`;
  }
  async type(css, text) { await command("POST", `${await this.element(css)}/value`, { text }); }
  async click(css) { await command("POST", `${await this.element(css)}/click`, {}); }
  rows() { return this.run(`() => [...document.querySelectorAll("#tasks li")].map((row) => [row.querySelector("span").textContent, row.querySelector("input").checked])`); }
  text(css) { return this.run(`(css) => document.querySelector(css).textContent`, css); }
  async expectRows(expected) {
    await until(`rows ${JSON.stringify(expected)}`, async () => JSON.stringify(await this.rows()) === JSON.stringify(expected));
  }
  async picture(name) {
    if (pictures) writeFileSync(join(pictures, `${name}.png`), Buffer.from(await command("GET", `${this.path}/screenshot`), "base64"));
  }
  // How the page would look to others: a dark desktop, a narrow screen.
  async look(scheme, width) {
    const cdp = (cmd, params) => command("POST", `${this.path}/goog/cdp/execute`, { cmd, params });
    await cdp("Emulation.setEmulatedMedia", { features: [{ name: "prefers-color-scheme", value: scheme }] });
    await cdp("Emulation.setDeviceMetricsOverride", { width, height: 600, deviceScaleFactor: 1, mobile: width < 500 });
  }
  // What the keyboard is on: an id, or the name that a screen reader says.
  focus() { return this.run(`() => document.activeElement.id || document.activeElement.getAttribute("aria-label")`); }
  // Complaints of the browser itself: blocked scripts, failed loads. Answers of 4xx are part of the test.
  async complaints() {
    const entries = await command("POST", `${this.path}/se/log`, { type: "browser" });
    return entries.filter((entry) => entry.level === "SEVERE" && !/status of 4\d\d/.test(entry.message));
  }
  close() { return command("DELETE", this.path); }
}

try {
  const port = await freePort();
  driver = `http://127.0.0.1:${port}`;
  children.push(spawn("chromedriver", [`--port=${port}`], { stdio: "ignore" }));
  await until("chromedriver answers", async () => (await fetch(`${driver}/status`)).ok);

  const url = await startService({});
  const browser = await Browser.open("pt-BR");
  await browser.go(url);
  assert.equal(await browser.text("h1"), "Tarefas");
  await until("the empty list is named", async () => (await browser.text("#state")) === "Nenhuma tarefa ainda.");
  await browser.picture("empty");

  await browser.type("#title", "Comprar pão\n");
  await browser.expectRows([["Comprar pão", false]]);
  await browser.type("#title", "<b>não é HTML</b> & 'aspas'");
  await browser.click("#add button");
  await browser.expectRows([["Comprar pão", false], ["<b>não é HTML</b> & 'aspas'", false]]);
  await browser.click("#tasks li:first-child input");
  await browser.expectRows([["Comprar pão", true], ["<b>não é HTML</b> & 'aspas'", false]]);
  await until("the tick is stored", async () => (await (await fetch(`${url}/tasks?done=true`)).json()).length === 1);

  await browser.type("#title", "   \n");
  await until("the error is shown", async () => (await browser.text("#error")) === "O título é obrigatório");
  await browser.picture("portuguese");

  await browser.go(url);
  await browser.expectRows([["Comprar pão", true], ["<b>não é HTML</b> & 'aspas'", false]]);
  await browser.click("#tasks li:first-child button");
  await browser.expectRows([["<b>não é HTML</b> & 'aspas'", false]]);
  await until("the keyboard is on the next task", async () => (await browser.focus()) === "Excluir: <b>não é HTML</b> & 'aspas'");
  await browser.go(url);
  await browser.expectRows([["<b>não é HTML</b> & 'aspas'", false]]);
  assert.deepEqual(await browser.complaints(), []);

  for (let number = 0; number < 120; number += 1) {
    await fetch(`${url}/tasks`, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ title: `tarefa ${number}` }) });
  }
  await browser.go(url);
  await until("one page is shown", async () => (await browser.rows()).length === 100);
  await browser.click("#more");
  await until("the rest is shown", async () => (await browser.rows()).length === 121);
  assert.equal(await browser.text("#state"), "121 no total");
  // A task that somebody else has deleted leaves the list when it is touched, and the reason is shown.
  const gone = (await (await fetch(`${url}/tasks?limit=1`)).json())[0];
  await fetch(`${url}/tasks/${gone.id}`, { method: "DELETE" });
  await browser.click("#tasks li:first-child input");
  await until("the reason is shown", async () => (await browser.text("#error")) === "Tarefa não encontrada");
  await until("it has left the list", async () => (await browser.rows())[0][0] !== gone.title);
  await browser.look("dark", 390);
  await browser.picture("narrow-dark");
  await browser.close();

  // The answer is lost after the task was stored: adding it again makes no second one.
  const own = await startService({});
  const lossy = await Browser.open("en-US");
  await lossy.go(own);
  await until("the list is there", async () => (await lossy.text("#state")) === "No tasks yet.");
  await lossy.run(`() => {
    const whole = window.fetch;
    window.fetch = async (...request) => { await whole(...request); window.fetch = whole; throw new TypeError("lost"); };
  }`);
  await lossy.type("#title", "Once\n");
  await until("the loss is shown", async () => (await lossy.text("#error")).startsWith("The service did not answer"));
  await lossy.picture("english-lost");
  await lossy.click("#add button");
  await lossy.expectRows([["Once", false]]);
  assert.equal((await (await fetch(`${own}/tasks`)).json()).length, 1);
  await lossy.close();

  const guarded = await startService({ API_TOKEN: "s3cret" });
  const english = await Browser.open("en-US");
  await english.go(guarded);
  assert.equal(await english.text("h1"), "Tasks");
  await english.type("#title", "Buy bread\n");
  await until("the refusal is shown", async () => (await english.text("#error")) === "The access token is missing or wrong");
  await english.picture("english-token");
  await english.type("#token", "s3cret\n");
  await english.click("#add button");
  await english.expectRows([["Buy bread", false]]);
  await english.picture("english-list");
  assert.deepEqual(await english.complaints(), []);
  await english.close();
  console.log("page: ok");
} finally {
  for (const child of children) child.kill();
  await Promise.all(children.map((child) => child.exitCode ?? child.signalCode ?? new Promise((resolve) => child.on("exit", resolve))));
  rmSync(scratch, { recursive: true, force: true });
}

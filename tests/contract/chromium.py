"""Chromium's view of a page, element by element: its accessibility tree over the DevTools protocol, on loopback.

Every element gets an id of its own where it has none (also in open shadow roots and frames of the same origin), so that
what Chromium says of it and what we read in the same HTML can be laid side by side.
"""

import asyncio
import contextlib
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0", "--no-first-run"),
    *("--disable-extensions", "--disable-background-networking", "--disable-component-update"),
    *("--disable-dev-shm-usage", "--hide-scrollbars", "--lang=en-US", "--window-size=1280,900"),
)
LIVE = r"""
(() => {  // what an adapter does before it sends a page: what people and scripts have put in, as attributes
  for (const e of document.querySelectorAll('input,option,textarea')) {
    if (e.localName === 'option') e.toggleAttribute('selected', e.selected);
    else if (e.localName === 'textarea') e.textContent = e.value;
    else if (e.type === 'checkbox' || e.type === 'radio') e.toggleAttribute('checked', e.checked);
    else if (e.type !== 'password' && e.type !== 'file') e.setAttribute('value', e.value);
  }
})()
"""
STAMP = r"""
(() => {
  let n = 0;
  const facts = {}, taken = new Set(), roots = [];
  const visit = root => {
    for (const e of root.querySelectorAll('*')) {
      if (!e.id || taken.has(e.id)) e.id = `x-${++n}`;
      taken.add(e.id);
      const clicked = typeof e.onclick === 'function' && e.checkVisibility();
      const f = {tag: e.localName, reached: e.tabIndex >= 0, clicked};
      if (e.localName === 'select' || e.localName === 'input') f.required = e.required;
      const isOpen = o => !o.disabled && (o.parentNode === e || !o.parentNode.disabled);
      if (e.localName === 'select') f.options = [...e.options].filter(isOpen).map(o => o.label || o.text);
      if (e.localName === 'select') f.chosen = [...e.selectedOptions].map(o => o.label || o.text);
      facts[e.id] = f;
    }
    for (const e of root.querySelectorAll('*')) {
      if (e.shadowRoot) { roots.push(e.shadowRoot); visit(e.shadowRoot); }
      if (e.localName === 'iframe' && e.contentDocument) visit(e.contentDocument);
    }
  };
  visit(document);
  const options = {serializableShadowRoots: true, shadowRoots: roots};
  const quote = text => text.replace(/&/g, '&amp;').replace(/"/g, '&quot;');
  const head = [...document.documentElement.attributes].map(a => ` ${a.name}="${quote(a.value)}"`).join('');
  const write = page => {
    let html = page.documentElement.getHTML(options);
    for (const e of page.querySelectorAll('iframe[srcdoc]')) {
      if (!e.contentDocument) continue;
      const tag = new RegExp(`<iframe(?:[^">]|"[^"]*")* id="${e.id}"(?:[^">]|"[^"]*")*>`);
      const inner = quote(write(e.contentDocument));
      html = html.replace(tag, found => found.replace(/ srcdoc="[^"]*"/, () => ` srcdoc="${inner}"`));
    }
    return html;
  };
  return JSON.stringify({facts, html: `<!DOCTYPE html><html${head}>${write(document)}</html>`});
})()
"""


@dataclass(frozen=True, slots=True)
class Element:
    """What Chromium says of one element. `fact` is its tag, whether keyboard and mouse reach it, a select's options."""

    role: str
    name: str
    value: str
    properties: dict[str, Any]
    fact: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Seen:
    """A page: the HTML with every id, and its elements by id; one that is not there is hidden."""

    html: str
    elements: dict[str, Element]


def find_chromium() -> str | None:
    """The program, or None."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


@dataclass
class Tab:
    """One page of a running Chromium."""

    socket: aiohttp.ClientWebSocketResponse
    events: list[str] = field(default_factory=list)
    asked: int = 0

    async def ask(self, method: str, **params: Any) -> Any:
        """The answer to one request."""
        self.asked += 1
        await self.socket.send_json({"id": self.asked, "method": method, "params": params})
        while True:
            message = await self.socket.receive_json(timeout=60)
            if message.get("id") != self.asked:
                self.events.append(message.get("method", ""))
            elif "error" in message:
                raise RuntimeError(f"{method}: {message['error']}")
            else:
                return message["result"]

    async def evaluate(self, script: str) -> Any:
        """What `script` gives, awaited where it is a promise."""
        found = await self.ask("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in found:
            raise RuntimeError(str(found["exceptionDetails"])[:500])
        return found["result"].get("value")

    async def read(self, url: str, settle: str = "") -> Seen:
        """The page at `url`: as it was sent, or as it is once `settle` (a script that may wait) has run."""
        self.events.clear()
        await self.ask("Page.navigate", url=url)
        while "Page.loadEventFired" not in self.events:
            self.events.append((await self.socket.receive_json(timeout=60)).get("method", ""))
        if settle:
            await self.evaluate(settle)
            await self.evaluate(LIVE)
        page = json.loads(await self.evaluate(STAMP))
        document = (await self.ask("DOM.getDocument", depth=-1, pierce=True))["root"]
        ids: dict[int, str] = {}
        frames: list[str] = []
        _list_nodes(document, ids, frames)
        elements = {}
        for frame in ["", *frames]:
            named = {"frameId": frame} if frame else {}
            for node in (await self.ask("Accessibility.getFullAXTree", **named))["nodes"]:
                key = ids.get(node.get("backendDOMNodeId"), "")
                if key in page["facts"] and not node["ignored"]:
                    elements[key] = _read_element(node, page["facts"][key])
        for key, fact in page["facts"].items():
            if fact["clicked"]:  # the tree leaves out what has no role, a mouse finds it
                elements.setdefault(key, Element("generic", "", "", {}, fact))
        return Seen(page["html"], elements)


def _list_nodes(node: dict[str, Any], ids: dict[int, str], frames: list[str]) -> None:
    flat = node.get("attributes") or []
    attributes = dict(zip(flat[::2], flat[1::2], strict=True))
    if "id" in attributes:
        ids[node["backendNodeId"]] = attributes["id"]
    below = [*node.get("children", ())]
    below += [root for root in node.get("shadowRoots", ()) if root.get("shadowRootType") != "user-agent"]
    if "contentDocument" in node:
        frames += [node["frameId"]] if node.get("frameId") else []
        below.append(node["contentDocument"])
    for child in below:
        _list_nodes(child, ids, frames)


def _read_element(node: dict[str, Any], fact: dict[str, Any]) -> Element:
    def said(key: str) -> str:
        return str((node.get(key) or {}).get("value") or "")

    properties = {item["name"]: item["value"].get("value") for item in node.get("properties", ())}
    return Element(said("role"), said("name"), said("value"), properties, fact)


@contextlib.asynccontextmanager
async def run_chromium(program: str) -> AsyncIterator[Tab]:
    """A Chromium of our own with a folder of its own; both are gone afterwards."""
    clean = {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")}
    with tempfile.TemporaryDirectory(prefix="pilotage-chromium-", ignore_cleanup_errors=True) as folder:
        process = await asyncio.create_subprocess_exec(
            *(program, *FLAGS, f"--user-data-dir={folder}", "about:blank"),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            env=clean,
        )
        try:
            port = await _find_port(Path(folder) / "DevToolsActivePort")
            async with aiohttp.ClientSession() as client:
                async with client.get(f"http://127.0.0.1:{port}/json/list") as response:
                    pages = [found for found in await response.json() if found["type"] == "page"]
                address = pages[0]["webSocketDebuggerUrl"]
                async with client.ws_connect(address, max_msg_size=0) as socket:
                    tab = Tab(socket)
                    for domain in ("Page", "DOM", "Accessibility", "Runtime", "Network"):
                        await tab.ask(f"{domain}.enable")
                    yield tab
        finally:
            process.terminate()
            await process.wait()


async def _find_port(path: Path) -> int:
    def look() -> int:
        until = time.monotonic() + 30
        while time.monotonic() < until:
            if path.exists() and (found := re.match(r"(\d+)\n", path.read_text())):
                return int(found[1])
            time.sleep(0.05)
        raise TimeoutError(f"{path}: Chromium has not come up")

    return await asyncio.to_thread(look)

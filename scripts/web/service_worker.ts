/**
 * Keeps the page and its data in the browser, so that it works without a network after the first
 * visit.
 *
 * The page itself comes from the server; only if that does not answer, it is the one that was kept.
 * All other files have a hash in their names, and come from the cache. So no page is stale, and
 * none gets the files of another version. Nothing is requested from anywhere else.
 *
 * @module
 */

/** What the build puts before this: a hash of all files, which the page has too, their names, and a
 * hash of the data. */
declare const BUILD: { readonly page: string; readonly files: string[]; readonly data: string };

/** An event that lasts as long as the work for it. */
interface Lasting extends Event {
  waitUntil(work: Promise<unknown>): void;
}

/** A request of the page. */
interface Asked extends Lasting {
  readonly request: Request;
  respondWith(answer: Promise<Response>): void;
}

/** What a service worker has of its scope; the page's types know no other. */
declare const self: {
  readonly registration: { readonly scope: string };
  readonly clients: { claim(): Promise<void> };
  skipWaiting(): Promise<void>;
  addEventListener(type: "install" | "activate", handle: (event: Lasting) => void): void;
  addEventListener(type: "fetch", handle: (event: Asked) => void): void;
};

/** Milliseconds that the server has to answer, before the page that was kept is taken. */
const PATIENCE = 5000;

const { scope } = self.registration;
/** Other pages of this origin have caches of their own. */
const PREFIX = `resnette ${scope} `;
const PAGE = `${PREFIX}page ${BUILD.page}`, DATA = `${PREFIX}data ${BUILD.data}`;

/** Keeps the files of this version, all or none. */
async function install(): Promise<void> {
  const cache = await caches.open(PAGE);
  const index = await fetch(scope, { cache: "no-cache" });
  const text = await index.clone().text();
  // Where another version is being put there just now, the next visit tries again.
  if (!text.includes(BUILD.page)) throw new Error("the page is of another version");
  await Promise.all([cache.put(scope, index), cache.addAll(BUILD.files)]);
  await self.skipWaiting();
}

/** Forgets other versions. */
async function activate(): Promise<void> {
  const others = (await caches.keys()).filter((name) =>
    name.startsWith(PREFIX) && name !== PAGE && name !== DATA
  );
  await Promise.all(others.map((name) => caches.delete(name)));
  await self.clients.claim();
}

/** The page, from the server if that answers. */
async function page(request: Request): Promise<Response> {
  const late = new AbortController(), timer = setTimeout(() => late.abort(), PATIENCE);
  try {
    const response = await fetch(request, { signal: late.signal });
    if (response.status < 500) return response;
  } catch {
    // There is no network.
  } finally {
    clearTimeout(timer); // What has begun to come may take its time.
  }
  return await (await caches.open(PAGE)).match(scope) ?? Response.error();
}

/** A file of the page's, by its name with its hash. */
async function file(request: Request): Promise<Response> {
  return await (await caches.open(PAGE)).match(request.url) ?? await fetch(request);
}

/** A file of data, which is kept as it comes, if it comes whole. */
async function data(event: Asked): Promise<Response> {
  const { request } = event, cache = await caches.open(DATA);
  const kept = await cache.match(request.url);
  if (kept) return kept;
  const response = await fetch(request);
  const isFile = !/^text\/html\b/i.test(response.headers.get("content-type") ?? "");
  if (response.status === 200 && isFile) {
    event.waitUntil(cache.put(request.url, response.clone()).catch(() => {}));
  }
  return response;
}

self.addEventListener("install", (event) => event.waitUntil(install()));
self.addEventListener("activate", (event) => event.waitUntil(activate()));
self.addEventListener("fetch", (event) => {
  const { request } = event, [url = ""] = request.url.split(/[?#]/);
  if (request.method !== "GET" || !url.startsWith(scope)) return;
  const name = url.slice(scope.length);
  if (name === "" || name === "index.html") event.respondWith(page(request));
  else if (BUILD.files.includes(name)) event.respondWith(file(request));
  else if (name.startsWith("data/")) event.respondWith(data(event));
});

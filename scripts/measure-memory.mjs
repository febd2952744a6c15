// Starts a registry, sends it large tarballs, and reads its peak resident memory from /proc.
import { spawn } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { once } from 'node:events';
import { gzipSync } from 'node:zlib';

const program = process.argv[2];
const MB = 1024 * 1024;
const folder = mkdtempSync(join(tmpdir(), 'rustaccio-memory-'));
const agent = new http.Agent({ keepAlive: true, maxSockets: 64 });

/** A tarball with one incompressible file. */
function tarball(name, version, size) {
  const entry = (path, bytes) => {
    const header = Buffer.alloc(512);
    header.write(path, 0);
    header.write('0000644\0', 100);
    header.write('0000000\0', 108);
    header.write('0000000\0', 116);
    header.write(bytes.length.toString(8).padStart(11, '0') + '\0', 124);
    header.write('00000000000\0', 136);
    header.write('        ', 148);
    header.write('0', 156);
    header.write('ustar\x0000', 257);
    const sum = header.reduce((total, byte) => total + byte, 0);
    header.write(sum.toString(8).padStart(6, '0') + '\0 ', 148);
    return Buffer.concat([header, bytes, Buffer.alloc((512 - (bytes.length % 512)) % 512)]);
  };
  const manifest = Buffer.from(JSON.stringify({ name, version }));
  const parts = [entry('package/package.json', manifest), entry('package/heavy.bin', randomBytes(size))];
  return gzipSync(Buffer.concat([...parts, Buffer.alloc(1024)]), { level: 1 });
}

function dist(name, version, bytes, base) {
  return {
    integrity: 'sha512-' + createHash('sha512').update(bytes).digest('base64'),
    shasum: createHash('sha1').update(bytes).digest('hex'),
    tarball: `${base}/${name}/-/${name}-${version}.tgz`,
  };
}

function send(method, url, { token, body } = {}) {
  return new Promise((resolve, reject) => {
    const headers = { 'content-type': 'application/json' };
    if (token) headers.authorization = `Bearer ${token}`;
    const request = http.request(url, { method, headers, agent }, async (response) => {
      const chunks = [];
      for await (const chunk of response) chunks.push(chunk);
      const text = Buffer.concat(chunks).toString();
      if (response.statusCode >= 300) reject(new Error(`${method} ${url}: ${response.statusCode} ${text}`));
      else resolve(text ? JSON.parse(text) : undefined);
    });
    request.on('error', reject);
    request.end(body);
  });
}

/** Reads a tarball to its end without keeping it; its sha1. */
function download(url) {
  return new Promise((resolve, reject) => {
    http.get(url, { agent }, (response) => {
      const hash = createHash('sha1');
      response.on('data', (chunk) => hash.update(chunk));
      response.on('end', () => (response.complete ? resolve(hash.digest('hex')) : reject(new Error('cut'))));
      response.on('error', reject);
    }).on('error', reject);
  });
}

const status = (id, key) => Number(readFileSync(`/proc/${id}/status`, 'utf8').match(new RegExp(`${key}:\\s+(\\d+)`))[1]) / 1024;

async function measured(what, limit, id, work) {
  writeFileSync(`/proc/${id}/clear_refs`, '5');
  const before = status(id, 'VmRSS');
  await work();
  const grown = status(id, 'VmHWM') - before;
  const verdict = grown < limit ? 'ok' : 'TOO MUCH';
  console.log(`${what.padEnd(44)} ${grown.toFixed(1).padStart(6)} MB  (limit ${limit} MB)  ${verdict}`);
  if (grown >= limit) process.exitCode = 1;
}

const cold = tarball('cold', '1.0.0', 60 * MB);
let asked = 0;
const upstream = http.createServer((request, response) => {
  const base = `http://127.0.0.1:${upstream.address().port}`;
  if (request.url === '/cold') {
    const version = { name: 'cold', version: '1.0.0', dist: dist('cold', '1.0.0', cold, base) };
    response.end(JSON.stringify({ name: 'cold', 'dist-tags': { latest: '1.0.0' }, versions: { '1.0.0': version } }));
  } else if (request.url.endsWith('.tgz')) {
    asked += 1;
    response.end(cold);
  } else {
    response.writeHead(404).end();
  }
}).listen(0, '127.0.0.1');
await once(upstream, 'listening');

const registry = spawn(program, [], {
  env: {
    RUSTACCIO_BIND: '127.0.0.1:0',
    RUSTACCIO_DATA_DIR: join(folder, 'data'),
    RUSTACCIO_MAX_BODY_SIZE: '200mb',
    RUSTACCIO_UPSTREAM: `http://127.0.0.1:${upstream.address().port}`,
  },
  stdio: ['ignore', 'pipe', 'inherit'],
});
try {
  let said = '';
  for await (const chunk of registry.stdout) {
    said += chunk;
    if (said.includes('npm config set registry')) break;
  }
  const url = said.match(/http:\/\/127\.0\.0\.1:\d+/)[0];
  const body = JSON.stringify({ name: 'alice', password: 'password' });
  const { token } = await send('PUT', `${url}/-/user/org.couchdb.user:alice`, { body });
  const document = (name, bytes) => JSON.stringify({
    _id: name, name, 'dist-tags': { latest: '1.0.0' },
    versions: { '1.0.0': { name, version: '1.0.0', dist: dist(name, '1.0.0', bytes, url) } },
    _attachments: { [`${name}-1.0.0.tgz`]: { data: bytes.toString('base64'), length: bytes.length } },
  });
  // Code that has never run, and threads that have never been used, are no growth of the load.
  await send('PUT', `${url}/small`, { token, body: document('small', tarball('small', '1.0.0', 1000)) });
  await download(`${url}/small/-/small-1.0.0.tgz`);

  const fifty = document('fifty', tarball('fifty', '1.0.0', 50 * MB));
  await measured('publishing a tarball of 50 MB', 16, registry.pid, () => send('PUT', `${url}/fifty`, { token, body: fifty }));
  const sixtyBytes = tarball('sixty', '1.0.0', 60 * MB);
  await send('PUT', `${url}/sixty`, { token, body: document('sixty', sixtyBytes) });
  const fifties = async (name, bytes) => {
    const expected = createHash('sha1').update(bytes).digest('hex');
    const all = Array.from({ length: 50 }, () => download(`${url}/${name}/-/${name}-1.0.0.tgz`));
    for (const found of await Promise.all(all)) {
      if (found !== expected) throw new Error(`${name}: wrong bytes`);
    }
  };
  await measured('50 downloads of a hosted one of 60 MB', 64, registry.pid, () => fifties('sixty', sixtyBytes));
  await measured('50 downloads of a cold one of 60 MB', 64, registry.pid, () => fifties('cold', cold));
  await measured('50 downloads of a cached one of 60 MB', 64, registry.pid, () => fifties('cold', cold));
  console.log(`upstream was asked for the tarball ${asked} time(s)`);
  if (asked !== 1) process.exitCode = 1;
} finally {
  registry.kill('SIGTERM');
  upstream.close();
  agent.destroy();
  rmSync(folder, { recursive: true, force: true });
}

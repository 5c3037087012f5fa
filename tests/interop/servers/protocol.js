// What the servers on Node have in common: README.md says what they read and print.

'use strict';

const fs = require('fs');
const http2 = require('http2');

const report = (value) => fs.writeSync(1, JSON.stringify(value) + '\n');

// Options for the servers that are made next.
const overrides = {};

// Libraries hide headers and GOAWAY from handlers, so read them before they do.
for (const name of ['createServer', 'createSecureServer']) {
  const create = http2[name];
  http2[name] = (options, ...rest) => {
    const server = create({ ...options, ...overrides }, ...rest);
    server.on('stream', (stream, headers, flags, raw) => {
      report({ headers: raw.flatMap((value, i) => (i % 2 ? [[raw[i - 1], value]] : [])) });
    });
    server.on('session', (session) => session.on('goaway', (goaway) => report({ goaway })));
    return server;
  };
}

const refusals = { unauthenticated: 'no token', denied: 'not for you' };
const waits = { slow: 30000, late: 2500 };
const statuses = { '': 'SERVING', up: 'SERVING', ['u'.repeat(300)]: 'SERVING', down: 'NOT_SERVING' };

// Reads PREFIX or PREFIX:CA.
function files(paths) {
  const [prefix, ca] = paths.split(':');
  const read = (path) => fs.readFileSync(path);
  return { key: read(prefix + '.key'), cert: read(prefix + '.pem'), ca: ca && read(ca) };
}

// Serves listeners as the arguments name them, by open(kind, rest, port): it returns a port, or null where the library
// has no such thing, and how to stop it in good order.
async function run(open, set) {
  const start = async (listener, wanted = 0) => {
    const [kind] = listener.split(':', 1);
    return open(kind, listener.slice(kind.length + 1), wanted);
  };
  const ports = [];
  let stoppable;
  for (const listener of process.argv.slice(2)) {
    const opened = await start(listener);
    ports.push(opened.port);
    if (listener === 'stoppable') {
      stoppable = opened;
    }
  }
  report({ ports });
  const follow = async (chunk) => {
    const line = String(chunk).trim();
    const [name, status] = line.split('=');
    if (status) {
      set(name, status);
    } else if (line === 'stop') {
      stoppable.stop().then(() => report({ stopped: true }));
    } else if (line === 'start') {
      stoppable = await start('stoppable', stoppable.port);
    }
    report({ echo: true });
  };
  process.stdin.on('data', follow).on('end', () => process.exit(0));
}

module.exports = { files, overrides, refusals, report, run, statuses, waits };

// A health server on grpc-js, for interop.py. Its arguments, stdin and stdout are those of server.py, with two more
// lines: before each request {"headers": [[NAME, VALUE], ...]}, as they came over the wire, and for each GOAWAY
// {"goaway": CODE}.

'use strict';

const fs = require('fs');
const http2 = require('http2');

const report = (value) => fs.writeSync(1, JSON.stringify(value) + '\n');

// grpc-js hides these from handlers, so read them before it does.
for (const name of ['createServer', 'createSecureServer']) {
  const create = http2[name];
  http2[name] = (...args) => {
    const server = create(...args);
    server.on('stream', (stream, headers, flags, raw) => {
      report({ headers: raw.flatMap((value, i) => (i % 2 ? [[raw[i - 1], value]] : [])) });
    });
    server.on('session', (session) => session.on('goaway', (goaway) => report({ goaway })));
    return server;
  };
}

const grpc = require('@grpc/grpc-js');
const { HealthImplementation } = require('grpc-health-check');

const refusals = {
  unauthenticated: { code: grpc.status.UNAUTHENTICATED, details: 'no token' },
  denied: { code: grpc.status.PERMISSION_DENIED, details: 'not for you' },
};

function check(original) {
  return (call, callback) => {
    const { service } = call.request;
    report({
      service,
      timeout: (call.getDeadline() - Date.now()) / 1000,
      metadata: Object.entries(call.metadata.toJSON()).flatMap(([key, values]) =>
        values.map((value) => [key, Buffer.isBuffer(value) ? { base64: value.toString('base64') } : value])),
    });
    if (service in refusals) {
      callback(refusals[service]);
    } else if (service === 'slow') {
      const timer = setTimeout(() => original(call, callback), 30000);
      call.on('cancelled', () => clearTimeout(timer));
    } else {
      original(call, callback);
    }
  };
}

function credentials(prefix, ca) {
  const pair = { private_key: fs.readFileSync(prefix + '.key'), cert_chain: fs.readFileSync(prefix + '.pem') };
  return grpc.ServerCredentials.createSsl(ca ? fs.readFileSync(ca) : null, [pair], Boolean(ca));
}

function listen(server, listener) {
  const [kind, ...rest] = listener.split(':');
  const address = kind === 'unix' ? listener : '127.0.0.1:0';
  const secure = kind === 'tls' || kind === 'mtls';
  return new Promise((resolve, reject) => {
    server.bindAsync(address, secure ? credentials(...rest) : grpc.ServerCredentials.createInsecure(), (error, port) =>
      error ? reject(error) : resolve(port));
  });
}

async function main() {
  let listeners = process.argv.slice(2);
  const server = new grpc.Server();
  let health;
  if (listeners[0] === '--without-health') {
    listeners = listeners.slice(1);
  } else {
    const statuses = { '': 'SERVING', up: 'SERVING', ['u'.repeat(300)]: 'SERVING', down: 'NOT_SERVING' };
    health = new HealthImplementation(statuses);
    health.addToServer({
      addService: (service, methods) => server.addService(service, { ...methods, check: check(methods.check) }),
    });
  }
  const ports = [];
  for (const listener of listeners) {
    ports.push(await listen(server, listener));
  }
  report({ ports });
  const follow = (chunk) => {
    const [name, status] = String(chunk).trim().split('=');
    if (status) {
      health.setStatus(name, status);
    }
    report({ echo: true });
  };
  process.stdin.on('data', follow).on('end', () => process.exit(0));
}

main();

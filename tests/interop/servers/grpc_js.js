// A health server on grpc-js, for interop.py. README.md says what it reads and prints.

'use strict';

const { files, overrides, refusals, report, run, statuses, waits } = require('./protocol.js');

const grpc = require('@grpc/grpc-js');
const { HealthImplementation } = require('grpc-health-check');

const codes = { unauthenticated: grpc.status.UNAUTHENTICATED, denied: grpc.status.PERMISSION_DENIED };
const options = {
  aged: { 'grpc.max_connection_age_ms': 1000, 'grpc.max_connection_age_grace_ms': 60000 },
  strict: { 'grpc.keepalive_time_ms': 1000, 'grpc.keepalive_timeout_ms': 1000 },
};

const health = new HealthImplementation(statuses);

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
      callback({ code: codes[service], details: refusals[service] });
    } else if (service in waits) {
      const timer = setTimeout(() => callback(null, { status: 'SERVING' }), waits[service]);
      call.on('cancelled', () => clearTimeout(timer));
    } else {
      original(call, callback);
    }
  };
}

function credentials(paths) {
  const { key, cert, ca } = files(paths);
  return grpc.ServerCredentials.createSsl(ca ?? null, [{ private_key: key, cert_chain: cert }], Boolean(ca));
}

async function open(kind, rest, wanted) {
  const server = new grpc.Server(options[kind]);
  if (kind !== 'bare') {
    health.addToServer({
      addService: (service, methods) => server.addService(service, { ...methods, check: check(methods.check) }),
    });
  }
  // grpc-js has no setting for the version of TLS; Node has.
  overrides.maxVersion = kind.endsWith('12') ? 'TLSv1.2' : undefined;
  const secure = kind.startsWith('tls') || kind.startsWith('mtls');
  const port = await new Promise((resolve, reject) => {
    server.bindAsync(
      kind === 'unix' ? `unix:${rest}` : `127.0.0.1:${wanted}`,
      secure ? credentials(rest) : grpc.ServerCredentials.createInsecure(),
      (error, bound) => (error ? reject(error) : resolve(bound)),
    );
  });
  const stop = () => new Promise((resolve) => server.tryShutdown(resolve));
  return { port, stop };
}

run(open, (name, status) => health.setStatus(name, status));

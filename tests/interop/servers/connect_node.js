// A health server on Connect for Node, for interop.py. README.md says what it reads and prints. Connect has no health
// service for Node, so this is one as its users write it.

'use strict';

const { files, overrides, refusals, report, run, statuses, waits } = require('./protocol.js');

const http2 = require('http2');
const { EventEmitter, on } = require('events');
const { create, createFileRegistry } = require('@bufbuild/protobuf');
const { FileDescriptorSetSchema } = require('@bufbuild/protobuf/wkt');
const { Code, ConnectError } = require('@connectrpc/connect');
const { connectNodeAdapter } = require('@connectrpc/connect-node');

const REQUEST = '.grpc.health.v1.HealthCheckRequest';
const RESPONSE = '.grpc.health.v1.HealthCheckResponse';
const values = { UNKNOWN: 0, SERVING: 1, NOT_SERVING: 2, SERVICE_UNKNOWN: 3 };
const codes = { unauthenticated: Code.Unauthenticated, denied: Code.PermissionDenied };

// health.proto, as far as it goes: https://github.com/grpc/grpc-proto/blob/master/grpc/health/v1/health.proto
const { file } = {
  file: [{
    name: 'grpc/health/v1/health.proto',
    package: 'grpc.health.v1',
    syntax: 'proto3',
    messageType: [
      { name: 'HealthCheckRequest', field: [{ name: 'service', number: 1, type: 9, label: 1, jsonName: 'service' }] },
      {
        name: 'HealthCheckResponse',
        field: [
          { name: 'status', number: 1, type: 14, label: 1, typeName: `${RESPONSE}.ServingStatus`, jsonName: 'status' },
        ],
        enumType: [
          { name: 'ServingStatus', value: Object.entries(values).map(([name, number]) => ({ name, number })) },
        ],
      },
    ],
    service: [{
      name: 'Health',
      method: [
        { name: 'Check', inputType: REQUEST, outputType: RESPONSE },
        { name: 'Watch', inputType: REQUEST, outputType: RESPONSE, serverStreaming: true },
      ],
    }],
  }],
};
const Health = createFileRegistry(create(FileDescriptorSetSchema, { file })).getService('grpc.health.v1.Health');

const changes = new EventEmitter().setMaxListeners(0);

const health = {
  async check({ service }, context) {
    const metadata = [...context.requestHeader].map(([name, value]) =>
      [name, name.endsWith('-bin') ? { base64: Buffer.from(value, 'base64').toString('base64') } : value]);
    report({ service, timeout: context.timeoutMs() / 1000, metadata });
    if (service in refusals) {
      throw new ConnectError(refusals[service], codes[service]);
    }
    if (service in waits) {
      await new Promise((resolve) => {
        const timer = setTimeout(resolve, waits[service]);
        context.signal.addEventListener('abort', () => { clearTimeout(timer); resolve(); });
      });
      // A call that was given up must not be answered.
      context.signal.throwIfAborted();
      return { status: values.SERVING };
    }
    if (!(service in statuses)) {
      throw new ConnectError(`unknown service ${service}`, Code.NotFound);
    }
    return { status: values[statuses[service]] };
  },
  async *watch({ service }, context) {
    const changed = on(changes, 'changed', { signal: context.signal });
    for (let last; ; await changed.next()) {
      const status = values[statuses[service] ?? 'SERVICE_UNKNOWN'];
      if (status !== last) {
        yield { status };
        last = status;
      }
    }
  },
};

async function open(kind, rest, wanted) {
  if (kind === 'aged' || kind === 'strict') {
    return { port: null };
  }
  const handler = connectNodeAdapter({
    routes: (router) => kind === 'bare' ? router : router.service(Health, health),
  });
  overrides.maxVersion = kind.endsWith('12') ? 'TLSv1.2' : undefined;
  const secure = kind.startsWith('tls') || kind.startsWith('mtls');
  const pair = secure ? files(rest) : {};
  const server = secure
    ? http2.createSecureServer({ ...pair, requestCert: Boolean(pair.ca), rejectUnauthorized: Boolean(pair.ca) }, handler)
    : http2.createServer({}, handler);
  const sessions = new Set();
  server.on('session', (session) => {
    sessions.add(session);
    session.on('close', () => sessions.delete(session));
  });
  await new Promise((resolve) => server.listen(kind === 'unix' ? rest : { port: wanted, host: '127.0.0.1' }, resolve));
  const stop = () => new Promise((resolve) => {
    server.close(resolve);
    sessions.forEach((session) => session.close());
  });
  return { port: kind === 'unix' ? 0 : server.address().port, stop };
}

run(open, (name, status) => {
  statuses[name] = status;
  changes.emit('changed');
});

// A certified authorization server on 127.0.0.1, for tests: everybody is alice, and whatever is asked for is granted.
// Usage: node authorization_server.mjs <port>. Writes one line when it listens. `POST /rotate` changes its signing key,
// `POST /trust` takes the public key (JWK) of an enterprise's identity provider, and `GET /exchanges` says how many
// tokens it was asked to exchange. `POST /shape?/path` puts a server at that path as well, whose tokens have the claims
// in the body in place of its own (null: none), as an identity provider writes them.
import { createServer } from "node:http";
import { json } from "node:stream/consumers";
import { createPublicKey, generateKeyPairSync, verify } from "node:crypto";
import { Provider, errors } from "oidc-provider";

const port = Number(process.argv[2]);
const issuer = `http://127.0.0.1:${port}`;
const EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"; // RFC 8693
const ASSERTION = "urn:ietf:params:oauth:grant-type:jwt-bearer"; // RFC 7523, with the assertions of an enterprise
const ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token";
const STOCK = "https://stock.internal"; // the only service for which tokens are exchanged
const stored = new Map();
const published = []; // every public key of a generation, of the server without a path
let exchanges = 0;
let identityProvider; // its public key
let generation = 0;

// Outlives a provider, as a database would.
class Storage {
  constructor(kind) {
    this.kind = kind;
  }

  async upsert(id, payload) {
    // Clients register with the scopes of their first login. This server would refuse every step-up for that.
    if (this.kind === "Client") delete payload.scope;
    stored.set(`${this.kind}:${id}`, payload);
  }

  async find(id) {
    return stored.get(`${this.kind}:${id}`);
  }

  async findByUid(uid) {
    return [...stored.values()].find((payload) => payload.kind === this.kind && payload.uid === uid);
  }

  async consume(id) {
    (await this.find(id)).consumed = Math.floor(Date.now() / 1000);
  }

  async destroy(id) {
    stored.delete(`${this.kind}:${id}`);
  }

  async revokeByGrantId(grantId) {
    for (const [key, payload] of stored) if (payload.grantId === grantId) stored.delete(key);
  }
}

function signingKey(path) {
  generation += 1;
  const { privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  if (path === "") published.push(createPublicKey(privateKey));
  return { ...privateKey.export({ format: "jwk" }), use: "sig", alg: "ES256", kid: `key-${generation}` };
}

function machine(client_id, more) {
  return {
    client_id,
    client_secret: `secret-of-${client_id}`,
    grant_types: ["client_credentials"],
    redirect_uris: [],
    response_types: [],
    ...more,
  };
}

const configuration = {
  adapter: Storage,
  clients: [machine("ci"), machine("opaque"), machine("resource-server", { grant_types: [EXCHANGE] }), machine("managed", { grant_types: [ASSERTION] })],
  clientDefaults: { id_token_signed_response_alg: "ES256" },
  cookies: { keys: ["for tests only"] },
  findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: id }) }),
  features: {
    clientCredentials: { enabled: true },
    devInteractions: { enabled: false },
    introspection: { enabled: true, allowedPolicy: () => true },
    registration: { enabled: true },
    resourceIndicators: {
      enabled: true,
      useGrantedResource: () => true,
      getResourceServerInfo: (_, resource, client) => ({
        scope: "notes:read notes:write",
        audience: resource,
        accessTokenFormat: client.clientId === "opaque" ? "opaque" : "jwt",
        accessTokenTTL: 300,
        jwt: { sign: { alg: "ES256" } },
      }),
    },
    revocation: { enabled: true },
  },
  interactions: { url: (_, interaction) => `/interaction/${interaction.uid}` },
  async loadExistingGrant(ctx) {
    const { client, params, provider, session } = ctx.oidc;
    const grant = new provider.Grant({ accountId: session.accountId, clientId: client.clientId });
    grant.addOIDCScope(params.scope);
    grant.addResourceScope(params.resource, params.scope);
    await grant.save();
    return grant;
  },
  pkce: { required: () => true },
  scopes: ["notes:read", "notes:write"],
  ttl: { AccessToken: 300, ClientCredentials: 300, Grant: 300, Interaction: 300, Session: 300 },
};

// Returns the header and the claims of a JWT that was signed with a key.
function signed(token, key) {
  const [header, payload, signature] = token.split(".");
  const options = { key, dsaEncoding: "ieee-p1363" };
  if (!verify("sha256", Buffer.from(`${header}.${payload}`), options, Buffer.from(signature, "base64url")))
    throw new errors.InvalidGrant("the signature is wrong");
  return { ...JSON.parse(Buffer.from(header, "base64url")), ...JSON.parse(Buffer.from(payload, "base64url")) };
}

// Returns who a token of this server is for, and what it allows.
async function subjectOf(token, provider) {
  if (token.includes(".")) {
    const { sub, scope, exp } = signed(token, published.at(-1));
    return { sub, scope, exp };
  }
  const found = (await provider.AccessToken.find(token)) ?? (await provider.ClientCredentials.find(token));
  if (!found) throw new errors.InvalidGrant("there is no such token");
  return { sub: found.accountId ?? found.clientId, scope: found.scope, exp: found.exp };
}

async function exchange(ctx) {
  const { client, params, provider } = ctx.oidc;
  exchanges += 1;
  const subject = await subjectOf(params.subject_token, provider);
  if (params.subject_token_type !== ACCESS_TOKEN || !(subject.exp > Date.now() / 1000))
    throw new errors.InvalidGrant("the token has ended");
  if (params.audience !== STOCK) throw new errors.InvalidTarget();
  // A caller that may only read here may only read there.
  const granted = subject.scope.includes("notes:write") ? ["stock:read", "stock:write"] : ["stock:read"];
  const wanted = (params.scope ?? "stock:read").split(" ");
  if (!wanted.every((scope) => granted.includes(scope))) throw new errors.InvalidScope("not for this token");
  const token = await accessToken(ctx, subject.sub, STOCK, wanted.join(" "));
  ctx.body = { ...token, issued_token_type: ACCESS_TOKEN };
}

async function accessToken({ oidc: { client, provider } }, accountId, audience, scope) {
  const token = new provider.AccessToken({ accountId, client, gty: "token_exchange", scope });
  token.resourceServer = new provider.ResourceServer(audience, {
    accessTokenFormat: "jwt",
    accessTokenTTL: 300,
    audience,
    jwt: { sign: { alg: "ES256" } },
    scope,
  });
  return { access_token: await token.save(), expires_in: token.expiration, token_type: "Bearer" };
}

// Instead of a login: the identity provider of the enterprise says who may use which client for which server.
async function accept(ctx) {
  const { typ, aud, client_id, exp, resource, scope, sub } = signed(ctx.oidc.params.assertion, identityProvider);
  const fits = typ === "oauth-id-jag+jwt" && aud === issuer && client_id === ctx.oidc.client.clientId;
  if (!fits || !(exp > Date.now() / 1000)) throw new errors.InvalidGrant("the assertion is not for this client here");
  ctx.body = await accessToken(ctx, sub, resource, scope);
}

const shapes = new Map(); // claims by paths
const shaped = new Map(); // servers by paths

function customizers(path) {
  return {
    jwt(_ctx, _token, parts) {
      const claims = Object.entries({ ...parts.payload, ...shapes.get(path) });
      parts.payload = Object.fromEntries(claims.filter(([, value]) => value !== null));
    },
  };
}

async function shape(request, path) {
  shapes.set(path, await json(request));
  if (!shaped.has(path)) shaped.set(path, start(path));
}

// Another provider with another key is the same server to its clients.
function start(path = "") {
  const started = new Provider(issuer + path, {
    ...configuration,
    formats: { customizers: customizers(path) },
    jwks: { keys: [signingKey(path)] },
  });
  const parameters = ["audience", "requested_token_type", "scope", "subject_token", "subject_token_type"];
  started.registerGrantType(EXCHANGE, exchange, parameters);
  started.registerGrantType(ASSERTION, accept, ["assertion", "resource", "scope"]);
  return started;
}

let provider = start();

async function serve(request, response) {
  if (request.method === "POST" && request.url === "/rotate") {
    provider = start();
    response.end();
  } else if (request.method === "POST" && request.url === "/trust") {
    identityProvider = createPublicKey({ key: await json(request), format: "jwk" });
    response.end();
  } else if (request.url === "/exchanges") {
    response.end(String(exchanges));
  } else if (request.url.startsWith("/interaction/")) {
    await provider.interactionFinished(request, response, { login: { accountId: "alice" }, consent: {} });
  } else if (request.method === "POST" && request.url.startsWith("/shape?")) {
    await shape(request, request.url.slice("/shape?".length));
    response.end();
  } else {
    const path = [...shaped.keys()].find((path) => request.url.startsWith(`${path}/`)) ?? "";
    request.originalUrl = request.url; // from which the library finds out where it is mounted
    request.url = request.url.slice(path.length);
    await (shaped.get(path) ?? provider).callback()(request, response);
  }
}

createServer((request, response) => {
  serve(request, response).catch((error) => response.writeHead(500).end(String(error)));
}).listen(port, "127.0.0.1", () => console.log(`listening on ${issuer}`));

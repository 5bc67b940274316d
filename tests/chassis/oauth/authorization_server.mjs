// A certified authorization server on 127.0.0.1, for tests: everybody is alice, and whatever is asked for is granted.
// Usage: node authorization_server.mjs <port>. Writes one line when it listens. `POST /rotate` changes its signing key.
import { createServer } from "node:http";
import { generateKeyPairSync } from "node:crypto";
import { Provider } from "oidc-provider";

const port = Number(process.argv[2]);
const issuer = `http://127.0.0.1:${port}`;
const stored = new Map();
let generation = 0;

// Outlives a provider, as a database would.
class Storage {
  constructor(kind) {
    this.kind = kind;
  }

  async upsert(id, payload) {
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

function signingKey() {
  generation += 1;
  const { privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
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
  clients: [machine("ci"), machine("opaque"), machine("resource-server", { grant_types: [] })],
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

// Another provider with another key is the same server to its clients.
const start = () => new Provider(issuer, { ...configuration, jwks: { keys: [signingKey()] } });
let provider = start();

async function serve(request, response) {
  if (request.method === "POST" && request.url === "/rotate") {
    provider = start();
    response.end();
  } else if (request.url.startsWith("/interaction/")) {
    await provider.interactionFinished(request, response, { login: { accountId: "alice" }, consent: {} });
  } else {
    await provider.callback()(request, response);
  }
}

createServer((request, response) => {
  serve(request, response).catch((error) => response.writeHead(500).end(String(error)));
}).listen(port, "127.0.0.1", () => console.log(`listening on ${issuer}`));

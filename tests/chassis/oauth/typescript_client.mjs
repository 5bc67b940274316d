// Connects the official TypeScript client and prints why that fails.
// Usage: node typescript_client.mjs <url> <credential> header|provider
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";

const [url, credential, kind] = process.argv.slice(2);
const redirectUrl = "http://127.0.0.1:1/callback";
const provider = {
  redirectUrl,
  clientMetadata: { client_name: "a client", redirect_uris: [redirectUrl] },
  clientInformation: () => undefined,
  saveClientInformation: () => {},
  tokens: () => ({ access_token: credential, token_type: "Bearer" }),
  saveTokens: () => {},
  redirectToAuthorization: () => {},
  saveCodeVerifier: () => {},
  codeVerifier: () => "",
};
const headers = { Authorization: `Bearer ${credential}` };
const options = kind === "provider" ? { authProvider: provider } : { requestInit: { headers } };
try {
  await new Client({ name: "a client", version: "1" }).connect(new StreamableHTTPClientTransport(new URL(url), options));
  process.exit(0);
} catch (error) {
  console.log(`${error.name}: ${error.message}`);
  process.exit(1);
}

// The suite has no option for a header. Loaded in front of it (`node --import`), this adds the credential to every
// request that has none, whichever way it is sent.
import { subscribe } from 'node:diagnostics_channel';
import { env } from 'node:process';

const value = `Bearer ${env.MCP_KEY}`;
subscribe('undici:request:create', ({ request }) => request.addHeader('authorization', value));
subscribe('http.client.request.created', ({ request }) => request.setHeader('authorization', value));

// @anthropic-ai/sdk, unmodified, against a running server.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import Anthropic from '@anthropic-ai/sdk';

const model = process.env.INFERD_MODEL;
const baseURL = process.env.INFERD_URL.replace(/\/v1\/?$/, '');
const client = new Anthropic({ baseURL, apiKey: process.env.INFERD_KEY ?? 'not-needed', maxRetries: 0 });
const plain = { model, max_tokens: 12, temperature: 0, messages: [{ role: 'user', content: 'Say hello.' }] };
const weather = {
  name: 'get_weather',
  input_schema: { type: 'object', properties: { city: { type: 'string', enum: ['Paris', 'Rome'] } }, required: ['city'] },
};
const ask = [{ role: 'user', content: 'What is the weather in Paris?' }];
const call = { ...plain, max_tokens: 200, messages: ask, tools: [weather], tool_choice: { type: 'any' } };
const textOf = (message) => message.content.filter((b) => b.type === 'text').map((b) => b.text).join('');
const taken = (usage) => usage.input_tokens + usage.cache_read_input_tokens + usage.cache_creation_input_tokens;

test('messages: create', async () => {
  const reply = await client.messages.create(plain);
  assert.equal(reply.type, 'message');
  assert.ok(textOf(reply));
  assert.ok(reply.usage.output_tokens > 0);
  assert.ok(reply._request_id);
});

test('messages: stream', async () => {
  const kinds = [];
  for await (const event of await client.messages.create({ ...plain, stream: true })) kinds.push(event.type);
  assert.equal(kinds[0], 'message_start');
  assert.deepEqual(kinds.slice(-2), ['message_delta', 'message_stop']);
});

test('messages: stream helper', async () => {
  const whole = await client.messages.create(plain);
  const stream = client.messages.stream(plain);
  let text = '';
  stream.on('text', (delta) => { text += delta; });
  const reply = await stream.finalMessage();
  assert.equal(text, textOf(whole));
  assert.equal(textOf(reply), textOf(whole));
  assert.equal(taken(reply.usage), taken(whole.usage));
  assert.equal(reply.usage.output_tokens, whole.usage.output_tokens);
});

test('messages: tools', async () => {
  const reply = await client.messages.stream(call).finalMessage();
  const asked = reply.content.find((b) => b.type === 'tool_use');
  assert.ok(['Paris', 'Rome'].includes(asked.input.city));
  assert.equal(reply.stop_reason, 'tool_use');
  const next = await client.messages.create({
    ...plain, tools: [weather],
    messages: [...ask, { role: 'assistant', content: reply.content },
      { role: 'user', content: [{ type: 'tool_result', tool_use_id: asked.id, content: 'Sunny' }] }],
  });
  assert.ok(next.content.length);
});

test('messages: json_schema', async () => {
  const schema = { type: 'object', properties: { yes: { type: 'boolean' } }, required: ['yes'], additionalProperties: false };
  const reply = await client.messages.create({ ...plain, max_tokens: 60, output_config: { format: { type: 'json_schema', schema } } });
  assert.equal(typeof JSON.parse(textOf(reply)).yes, 'boolean');
});

test('messages: count_tokens', async () => {
  const counted = await client.messages.countTokens({ model, messages: plain.messages });
  assert.equal(counted.input_tokens, taken((await client.messages.create(plain)).usage));
});

test('messages: abort', async () => {
  const stream = await client.messages.create({ ...plain, max_tokens: 2000, stream: true });
  for await (const _ of stream) break; // leaving the loop aborts
  assert.ok(textOf(await client.messages.create(plain)));
});

test('messages: errors', async () => {
  await assert.rejects(client.messages.create({ ...plain, temperature: 1.5 }),
    (e) => e instanceof Anthropic.BadRequestError && e.error.error.type === 'invalid_request_error');
  await assert.rejects(client.messages.create({ ...plain, model: 'no/such' }), (e) => e instanceof Anthropic.NotFoundError);
});

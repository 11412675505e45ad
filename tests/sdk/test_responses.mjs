// openai for Node's responses, unmodified, against a running server.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import OpenAI from 'openai';

const model = process.env.INFERD_MODEL;
const client = new OpenAI({ baseURL: process.env.INFERD_URL, apiKey: process.env.INFERD_KEY ?? 'not-needed', maxRetries: 0 });
const plain = { model, input: 'Say hello.', temperature: 0, max_output_tokens: 12 };
const weather = {
  type: 'function', name: 'get_weather', strict: true,
  parameters: { type: 'object', properties: { city: { type: 'string', enum: ['Paris', 'Rome'] } }, required: ['city'], additionalProperties: false },
};
const call = { ...plain, input: 'What is the weather in Paris?', max_output_tokens: 200, tools: [weather], tool_choice: 'required' };

test('responses: create', async () => {
  const reply = await client.responses.create(plain);
  assert.equal(reply.object, 'response');
  assert.ok(reply.output_text);
  assert.equal(reply.usage.total_tokens, reply.usage.input_tokens + reply.usage.output_tokens);
});

test('responses: stream', async () => {
  const events = [];
  for await (const event of await client.responses.create({ ...plain, stream: true })) events.push(event);
  assert.deepEqual(events.map((e) => e.sequence_number), events.map((_, i) => i));
  assert.equal(events[0].type, 'response.created');
  const text = events.filter((e) => e.type === 'response.output_text.delta').map((e) => e.delta).join('');
  assert.equal(text, (await client.responses.create(plain)).output_text);
});

test('responses: stream helper', async () => {
  const stream = client.responses.stream({ ...plain, max_output_tokens: 400 });
  let last;
  stream.on('response.output_text.delta', (event) => { last = event.snapshot; });
  const reply = await stream.finalResponse();
  assert.equal(reply.status, 'completed');
  assert.equal(reply.output[0].content[0].text, last);
});

test('responses: tools and a chain', async () => {
  const reply = await client.responses.create(call);
  const asked = reply.output.find((item) => item.type === 'function_call');
  assert.ok(['Paris', 'Rome'].includes(JSON.parse(asked.arguments).city));
  const next = await client.responses.create({
    ...plain, previous_response_id: reply.id, tools: [weather],
    input: [{ type: 'function_call_output', call_id: asked.call_id, output: 'Sunny' }],
  });
  assert.equal(next.previous_response_id, reply.id);
  assert.ok(next.usage.input_tokens > reply.usage.input_tokens);
  assert.equal((await client.responses.retrieve(reply.id)).id, reply.id);
  const items = [];
  for await (const item of client.responses.inputItems.list(next.id)) items.push(item.type);
  assert.deepEqual(items, ['function_call_output']);
  await client.responses.delete(reply.id);
  await assert.rejects(client.responses.retrieve(reply.id), (e) => e instanceof OpenAI.NotFoundError);
});

test('responses: json_schema', async () => {
  const schema = { type: 'object', properties: { yes: { type: 'boolean' } }, required: ['yes'], additionalProperties: false };
  const reply = await client.responses.parse({
    ...plain, max_output_tokens: 60, text: { format: { type: 'json_schema', name: 'answer', schema, strict: true } },
  });
  assert.equal(typeof JSON.parse(reply.output_text).yes, 'boolean');
});

test('responses: abort', async () => {
  const stream = await client.responses.create({ ...plain, max_output_tokens: 2000, stream: true });
  for await (const _ of stream) break; // leaving the loop aborts
  assert.ok((await client.responses.create(plain)).output_text);
});

test('responses: errors', async () => {
  await assert.rejects(client.responses.create({ ...plain, temperature: 9 }),
    (e) => e instanceof OpenAI.BadRequestError && e.param === 'temperature');
  await assert.rejects(client.responses.create({ ...plain, previous_response_id: 'resp_none' }),
    (e) => e instanceof OpenAI.BadRequestError && e.code === 'previous_response_not_found');
  await assert.rejects(client.responses.create({ ...plain, model: 'no/such' }), (e) => e instanceof OpenAI.NotFoundError);
});

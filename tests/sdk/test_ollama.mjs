// ollama-js, unmodified, against the listener for local clients (INFERD_LOCAL_URL) or a running server.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Ollama } from 'ollama';

const model = process.env.INFERD_MODEL;
const embedder = process.env.INFERD_EMBEDDING_MODEL ?? model;
const host = process.env.INFERD_LOCAL_URL ?? process.env.INFERD_URL.replace(/\/v1\/?$/, '');
const client = new Ollama({ host, headers: { Authorization: `Bearer ${process.env.INFERD_KEY ?? 'not-needed'}` } });
const options = { temperature: 0, num_predict: 12 };
const plain = { model, messages: [{ role: 'user', content: 'Say hello.' }], options };
const weather = {
  type: 'function',
  function: {
    name: 'get_weather',
    description: 'Current weather of a city',
    parameters: { type: 'object', required: ['city'], properties: { city: { type: 'string' } } },
  },
};

test('ollama: chat, whole and streamed', async () => {
  const whole = await client.chat(plain);
  assert.equal(whole.done, true);
  assert.ok(whole.message.content);
  assert.ok(whole.eval_count > 0 && whole.eval_duration > 0);
  let text = '';
  let last;
  for await (const part of await client.chat({ ...plain, stream: true })) {
    text += part.message.content;
    last = part;
  }
  assert.equal(text, whole.message.content);
  assert.equal(last.done, true);
});

test('ollama: tools go round', async () => {
  const call = { function: { name: 'get_weather', arguments: { city: 'Paris' } } };
  const messages = [
    { role: 'user', content: 'What is the weather in Paris?' },
    { role: 'assistant', content: '', tool_calls: [call] },
    { role: 'tool', tool_name: 'get_weather', content: 'Sunny' },
  ];
  const reply = await client.chat({ ...plain, messages, tools: [weather] });
  assert.equal(reply.done, true);
  for (const made of reply.message.tool_calls ?? []) assert.equal(typeof made.function.arguments, 'object');
});

test('ollama: a schema', async () => {
  const format = { type: 'object', properties: { yes: { type: 'boolean' } }, required: ['yes'], additionalProperties: false };
  const reply = await client.chat({ ...plain, format, options: { temperature: 0, num_predict: 100 } });
  assert.equal(typeof JSON.parse(reply.message.content).yes, 'boolean');
});

test('ollama: generate', async () => {
  const whole = await client.generate({ model, prompt: 'Say hello.', options });
  let text = '';
  for await (const part of await client.generate({ model, prompt: 'Say hello.', options, stream: true })) text += part.response;
  assert.ok(text);
  assert.equal(text, whole.response);
});

test('ollama: embed', async () => {
  const { embeddings } = await client.embed({ model: embedder, input: ['a', 'b'] });
  assert.equal(embeddings.length, 2);
  assert.deepEqual((await client.embeddings({ model: embedder, prompt: 'a' })).embedding, embeddings[0]);
});

test('ollama: list, show, ps', async () => {
  assert.ok((await client.list()).models.some((m) => m.name === model));
  assert.ok((await client.show({ model })).capabilities.includes('completion'));
  await client.generate({ model, prompt: '' });
  assert.ok((await client.ps()).models.some((m) => m.name === model));
});

test('ollama: errors', async () => {
  await assert.rejects(client.chat({ ...plain, model: 'no-such-model' }), (error) => error.status_code === 404);
  await assert.rejects(client.pull({ model: 'llama3' }), /hf\.co\//);
});

test('ollama: delete', { skip: !process.env.INFERD_LOCAL_URL }, async () => {
  assert.equal((await client.delete({ model: 'unwanted-node' })).status, 'success');
  await assert.rejects(client.delete({ model: 'unwanted-node' }), (error) => error.status_code === 404);
});

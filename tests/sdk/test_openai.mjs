// openai for Node, unmodified, and the API document's own JavaScript and curl samples, against a running server.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { test } from 'node:test';
import OpenAI from 'openai';

const url = process.env.INFERD_URL.replace(/\/$/, '');
const model = process.env.INFERD_MODEL;
const embeddingModel = process.env.INFERD_EMBEDDING_MODEL ?? model;
const textModel = process.env.INFERD_COMPLETION_MODEL ?? model;
const key = process.env.INFERD_KEY ?? 'not-needed';
const client = new OpenAI({ baseURL: url, apiKey: key, maxRetries: 0 });
const hello = [{ role: 'user', content: 'Say hello.' }];
const plain = { model, messages: hello, temperature: 0, max_tokens: 12 };
const weather = {
  type: 'function',
  function: {
    name: 'get_weather',
    parameters: { type: 'object', properties: { city: { type: 'string', enum: ['Paris', 'Rome'] } }, required: ['city'] },
  },
};

test('chat: create', async () => {
  const reply = await client.chat.completions.create(plain);
  assert.equal(reply.object, 'chat.completion');
  assert.ok(reply.choices[0].message.content);
  assert.equal(reply.usage.total_tokens, reply.usage.prompt_tokens + reply.usage.completion_tokens);
});

test('chat: stream with usage', async () => {
  const whole = await client.chat.completions.create(plain);
  const stream = await client.chat.completions.create({ ...plain, stream: true, stream_options: { include_usage: true } });
  let text = '';
  let last;
  for await (const chunk of stream) {
    text += chunk.choices[0]?.delta?.content ?? '';
    last = chunk;
  }
  assert.equal(text, whole.choices[0].message.content);
  assert.deepEqual(last.choices, []);
  assert.equal(last.usage.completion_tokens, whole.usage.completion_tokens);
});

test('chat: stream helper and n', async () => {
  const final = await client.chat.completions.stream(plain).finalChatCompletion();
  assert.ok(final.choices[0].message.content);
  const three = await client.chat.completions.create({ ...plain, n: 3, temperature: 1 });
  assert.deepEqual(three.choices.map((c) => c.index), [0, 1, 2]);
});

test('chat: tools, required and streamed', async () => {
  const options = { ...plain, max_tokens: 100, tools: [weather], tool_choice: 'required', parallel_tool_calls: false };
  const reply = await client.chat.completions.create(options);
  assert.equal(reply.choices[0].finish_reason, 'tool_calls');
  assert.ok(JSON.parse(reply.choices[0].message.tool_calls[0].function.arguments).city);
  const final = await client.chat.completions.stream(options).finalChatCompletion();
  assert.equal(final.choices[0].message.tool_calls[0].function.name, 'get_weather');
});

test('chat: json_schema', async () => {
  const schema = { type: 'object', properties: { yes: { type: 'boolean' } }, required: ['yes'], additionalProperties: false };
  const reply = await client.chat.completions.create({
    ...plain, max_tokens: 60, response_format: { type: 'json_schema', json_schema: { name: 'answer', schema, strict: true } },
  });
  assert.equal(typeof JSON.parse(reply.choices[0].message.content).yes, 'boolean');
});

test('chat: abort', async () => {
  const stream = await client.chat.completions.create({ ...plain, max_tokens: 2000, stream: true });
  for await (const _ of stream) break; // leaving the loop aborts
  assert.ok((await client.chat.completions.create(plain)).choices[0].message.content);
});

test('completions', async () => {
  const reply = await client.completions.create({ model: textModel, prompt: ['a', 'b'], max_tokens: 3, n: 2, temperature: 0 });
  assert.deepEqual(reply.choices.map((c) => c.index), [0, 1, 2, 3]);
});

test('embeddings: default encoding and float', async () => {
  const asked = { model: embeddingModel, input: 'Hello world' };
  const a = (await client.embeddings.create(asked)).data[0].embedding;
  const b = (await client.embeddings.create({ ...asked, encoding_format: 'float' })).data[0].embedding;
  assert.equal(a.length, b.length);
  a.forEach((x, i) => assert.ok(Math.abs(x - b[i]) < 1e-5));
});

test('models', async () => {
  const ids = [];
  for await (const m of client.models.list()) ids.push(m.id);
  assert.ok(ids.includes(model));
  assert.equal((await client.models.retrieve(model)).id, model);
});

test('errors', async () => {
  await assert.rejects(client.chat.completions.create({ ...plain, temperature: 9 }),
    (e) => e instanceof OpenAI.BadRequestError && e.param === 'temperature' && e.code === 'invalid_parameters');
  await assert.rejects(client.models.retrieve('no/such'), (e) => e instanceof OpenAI.NotFoundError);
});

// The document's streaming sample, its escaping undone: a naive reader that parses one event a read.
test("the document's fetch reader", async () => {
  const response = await fetch(`${url}/chat/completions`, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json', Authorization: `Bearer ${key}` },
    body: JSON.stringify({ ...plain, stream: true }),
  });
  assert.match(response.headers.get('content-type'), /^text\/event-stream/);
  assert.match(response.headers.get('cache-control'), /no-cache/);
  const reader = response.body.getReader();
  const decoder = new TextDecoder();
  let text = '';
  let done = false;
  while (!done) {
    const part = await reader.read();
    if (part.done) break;
    for (const line of decoder.decode(part.value).split('\n')) {
      if (!line.startsWith('data: ')) continue;
      const data = line.slice(6);
      if (data === '[DONE]') {
        done = true;
        break;
      }
      text += JSON.parse(data).choices[0]?.delta?.content ?? '';
    }
  }
  assert.ok(done);
  assert.equal(text, (await client.chat.completions.create(plain)).choices[0].message.content);
});

test("the document's curl samples", () => {
  const curl = (...args) => JSON.parse(execFileSync('curl', ['-sS', '-H', `Authorization: Bearer ${key}`, ...args]));
  const post = (path, body) => curl('-X', 'POST', `${url}${path}`, '-H', 'Content-Type: application/json', '-d', JSON.stringify(body));
  const chat = post('/chat/completions', {
    model, messages: [{ role: 'system', content: 'You are a helpful assistant.' }, { role: 'user', content: 'Explain quantum computing' }],
    max_tokens: 15, temperature: 0.7, top_p: 0.9, stream: false, stop: ['\\n\\n'], presence_penalty: 0.0, frequency_penalty: 0.0, user: 'user123',
  });
  assert.equal(chat.object, 'chat.completion');
  const text = post('/completions', {
    model: textModel, prompt: 'The future of artificial intelligence is', max_tokens: 10, temperature: 0.8, top_p: 1.0, n: 1,
    stream: false, logprobs: null, echo: false, stop: ['\\n'], presence_penalty: 0.0, frequency_penalty: 0.0, best_of: 1, user: 'user123',
  });
  assert.equal(text.object, 'text_completion');
  assert.equal(post('/embeddings', { model: embeddingModel, input: ['Hello world', 'How are you?'], user: 'user123' }).data.length, 2);
  assert.equal(curl(`${url}/models`).object, 'list');
});

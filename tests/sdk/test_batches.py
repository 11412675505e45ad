"""openai-python's files and batches, unmodified, against a running server and a real model."""

import json
import os
import time
import unittest

import openai
from openai import OpenAI

URL = os.environ["INFERD_URL"]
MODEL = os.environ["INFERD_MODEL"]
KEY = os.environ.get("INFERD_KEY", "not-needed")

client = OpenAI(base_url=URL, api_key=KEY, max_retries=0, timeout=300)


def line(name, **body):
    return json.dumps({"custom_id": name, "method": "POST", "url": "/v1/chat/completions",
                       "body": {"model": MODEL, "max_tokens": 6, "temperature": 0,
                                "messages": [{"role": "user", "content": f"Say {name}."}], **body}})


class Batches(unittest.TestCase):
    def upload(self, *lines):
        return client.files.create(file=("in.jsonl", "\n".join(lines).encode()), purpose="batch")

    def end(self, batch):
        deadline = time.monotonic() + 120
        while batch.status not in ("completed", "failed", "expired", "cancelled"):
            self.assertLess(time.monotonic(), deadline)
            batch = client.batches.retrieve(batch.id)
        return batch

    def test_a_batch_from_file_to_answers(self):
        file = self.upload(line("one"), line("two"), line("three", temperature=99))
        self.assertEqual(client.files.retrieve(file.id), file)
        self.assertIn(file.id, [f.id for f in client.files.list(purpose="batch")])
        batch = client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h",
                                      metadata={"name": "test"})
        self.assertEqual((batch.object, batch.metadata), ("batch", {"name": "test"}))
        batch = self.end(batch)
        self.assertEqual((batch.status, batch.request_counts.total, batch.request_counts.completed,
                          batch.request_counts.failed), ("completed", 3, 2, 1))
        answers = {a["custom_id"]: a for a in map(json.loads, client.files.content(batch.output_file_id).text.splitlines())}
        self.assertEqual(set(answers), {"one", "two"})
        alone = client.chat.completions.create(**json.loads(line("one"))["body"])
        self.assertEqual(answers["one"]["response"]["body"]["choices"][0]["message"]["content"],
                         alone.choices[0].message.content)
        failed = json.loads(client.files.content(batch.error_file_id).text)
        self.assertEqual((failed["custom_id"], failed["response"]["status_code"]), ("three", 400))
        self.assertIn(batch.id, [b.id for b in client.batches.list(limit=1)])
        self.assertTrue(client.files.delete(file.id).deleted)
        with self.assertRaises(openai.NotFoundError):
            client.files.content(file.id)

    def test_a_bad_file_and_a_cancelled_batch(self):
        batch = self.end(client.batches.create(input_file_id=self.upload("{").id, endpoint="/v1/chat/completions",
                                               completion_window="24h"))
        self.assertEqual((batch.status, batch.errors.data[0].line), ("failed", 1))
        long = [line(f"n{i}", max_tokens=200, ) for i in range(64)]
        batch = client.batches.create(input_file_id=self.upload(*long).id, endpoint="/v1/chat/completions",
                                      completion_window="24h")
        client.batches.cancel(batch.id)
        self.assertEqual(self.end(batch).status, "cancelled")


if __name__ == "__main__":
    unittest.main()

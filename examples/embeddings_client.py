"""Vectors and ranks of a server that was started with: octavo serve sentence-transformers/all-MiniLM-L6-v2"""

import json
import sys
import urllib.request

from openai import OpenAI

base_url = sys.argv[1] if len(sys.argv) > 1 else "http://localhost:8000/v1"
client = OpenAI(base_url=base_url, api_key="unused")
model = client.models.list().data[0].id

query = "How long is the Rhine?"
documents = ["The Rhine has 1,233 kilometres.", "Bread is baked from flour, water and salt.", "Rivers flow into the sea."]

answer = client.embeddings.create(model=model, input=[query, *documents])
print(f"{len(answer.data)} vectors of {len(answer.data[0].embedding)} numbers, {answer.usage.total_tokens} tokens")

body = json.dumps({"model": model, "query": query, "documents": documents}).encode()
request = urllib.request.Request(base_url + "/rerank", body, {"Content-Type": "application/json"})
with urllib.request.urlopen(request) as response:
    for result in json.load(response)["results"]:
        print(f"{result['relevance_score']:.3f} {result['document']['text']}")

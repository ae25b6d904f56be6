"""Vectors and ranks of an embedding model: octavo serve sentence-transformers/all-MiniLM-L6-v2, then
python examples/embeddings_client.py [http://localhost:8000/v1]"""

import sys

from openai import OpenAI

QUERY = "How long is the Rhine?"
DOCUMENTS = ["The Rhine has 1,233 kilometres.", "Bread is baked from flour, water and salt.", "Rivers flow into the sea."]


def main() -> None:
    base_url = sys.argv[1] if len(sys.argv) > 1 else "http://localhost:8000/v1"
    client = OpenAI(base_url=base_url, api_key="not needed unless the server has --api-key")
    model = client.models.list().data[0].id

    answer = client.embeddings.create(model=model, input=[QUERY, *DOCUMENTS])
    print(f"{len(answer.data)} vectors of {len(answer.data[0].embedding)} numbers, {answer.usage.total_tokens} tokens")

    # OpenAI's API has no name for this route; its client can ask for it all the same.
    body = {"model": model, "query": QUERY, "documents": DOCUMENTS}
    ranked = client.post("/rerank", cast_to=dict[str, object], body=body)
    for result in ranked["results"]:
        print(f"{result['relevance_score']:.3f} {result['document']['text']}")


if __name__ == "__main__":
    main()

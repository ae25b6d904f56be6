// Prints the token ids that llama.cpp makes of texts: llama_cpp_tokens MODEL.gguf ADD_SPECIAL < texts
//
// A text is its number of bytes in decimal, a line break, the bytes, a line break; the ids of each are a line of output.
// Needs nothing but the vocabulary: compile it with llama.cpp's sources llama-vocab, unicode, unicode-data, llama-arch,
// llama-model-loader, llama-mmap, llama-hparams and llama-impl, and link with its ggml-base.

#include "llama-model-loader.h"
#include "llama-vocab.h"

#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <string>
#include <vector>

int main(int, char ** argv) {
    std::vector<std::string> splits;
    llama_model_loader loader(
        nullptr, nullptr, nullptr, argv[1], splits, nullptr, LLAMA_LOAD_MODE_NONE, false, true, false, nullptr, nullptr);
    llama_vocab vocab;
    vocab.load(loader, LLM_KV(loader.get_arch()));
    std::string line;
    while (std::getline(std::cin, line)) {
        std::string text(std::stoul(line), '\0');
        std::cin.read(text.data(), text.size());
        std::getline(std::cin, line);
        for (const auto id : vocab.tokenize(text, std::atoi(argv[2]) != 0, true)) {
            std::printf("%d ", id);
        }
        std::printf("\n");
    }
}

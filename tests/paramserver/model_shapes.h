// The parameters of published architectures, in order of registration, made from their papers' dimensions as torchvision
// and Hugging Face name them. Their total counts are known: 25,557,032, 138,357,544, 109,482,240 and 124,439,808.
#pragma once
#include <array>
#include <string>
#include <vector>

#include "base/text.h"
#include "paramserver/table.h"

namespace dtrain::ps {

struct ModelShapes {
  std::string name;
  int64_t parameters;  // published
  Table table;         // in flat order, that is reversed
};

class ShapeList {
 public:
  void Add(const std::string& name, std::vector<int64_t> shape) { tensors_.push_back({name, DType::kF32, std::move(shape)}); }
  void Linear(const std::string& name, int64_t in, int64_t out) {
    Add(name + ".weight", {out, in});
    Add(name + ".bias", {out});
  }
  void Norm(const std::string& name, int64_t size) {
    Add(name + ".weight", {size});
    Add(name + ".bias", {size});
  }
  ModelShapes Make(const std::string& name, int64_t parameters, int servers) const {
    ModelShapes model{name, parameters, {}};
    model.table.servers = servers;
    for (auto tensor = tensors_.rbegin(); tensor != tensors_.rend(); ++tensor) model.table.entries.push_back({*tensor, 0});
    return model;
  }

 private:
  std::vector<TensorInfo> tensors_;
};

// He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", CVPR 2016: bottlenecks of 3, 4, 6, 3.
inline ModelShapes ResNet50(int servers) {
  ShapeList list;
  list.Add("conv1.weight", {64, 3, 7, 7});
  list.Norm("bn1", 64);
  int64_t in = 64;
  constexpr std::array<int, 4> kBlocks = {3, 4, 6, 3};
  for (int layer = 0; layer < 4; ++layer) {
    const int64_t width = int64_t{64} << layer, out = 4 * width;
    for (int block = 0; block < kBlocks[static_cast<size_t>(layer)]; ++block) {
      const std::string prefix = Cat("layer", layer + 1, ".", block, ".");
      list.Add(prefix + "conv1.weight", {width, in, 1, 1});
      list.Norm(prefix + "bn1", width);
      list.Add(prefix + "conv2.weight", {width, width, 3, 3});
      list.Norm(prefix + "bn2", width);
      list.Add(prefix + "conv3.weight", {out, width, 1, 1});
      list.Norm(prefix + "bn3", out);
      if (block == 0) {
        list.Add(prefix + "downsample.0.weight", {out, in, 1, 1});
        list.Norm(prefix + "downsample.1", out);
      }
      in = out;
    }
  }
  list.Linear("fc", 2048, 1000);
  return list.Make("ResNet-50", 25'557'032, servers);
}

// Simonyan, Zisserman, "Very Deep Convolutional Networks", ICLR 2015: configuration D.
inline ModelShapes Vgg16(int servers) {
  ShapeList list;
  int64_t in = 3;
  int number = 0;
  for (const int64_t out : {64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0}) {
    if (out == 0) {
      ++number;  // the pooling
      continue;
    }
    list.Add(Cat("features.", number, ".weight"), {out, in, 3, 3});
    list.Add(Cat("features.", number, ".bias"), {out});
    number += 2;
    in = out;
  }
  list.Linear("classifier.0", 512 * 7 * 7, 4096);
  list.Linear("classifier.3", 4096, 4096);
  list.Linear("classifier.6", 4096, 1000);
  return list.Make("VGG-16", 138'357'544, servers);
}

// Devlin, Chang, Lee, Toutanova, "BERT", NAACL 2019: base, with the pooler, without a task's head.
inline ModelShapes BertBase(int servers) {
  ShapeList list;
  list.Add("embeddings.word_embeddings.weight", {30522, 768});
  list.Add("embeddings.position_embeddings.weight", {512, 768});
  list.Add("embeddings.token_type_embeddings.weight", {2, 768});
  list.Norm("embeddings.LayerNorm", 768);
  for (int layer = 0; layer < 12; ++layer) {
    const std::string prefix = Cat("encoder.layer.", layer, ".");
    for (const char* part : {"query", "key", "value"}) list.Linear(Cat(prefix, "attention.self.", part), 768, 768);
    list.Linear(prefix + "attention.output.dense", 768, 768);
    list.Norm(prefix + "attention.output.LayerNorm", 768);
    list.Linear(prefix + "intermediate.dense", 768, 3072);
    list.Linear(prefix + "output.dense", 3072, 768);
    list.Norm(prefix + "output.LayerNorm", 768);
  }
  list.Linear("pooler.dense", 768, 768);
  return list.Make("BERT-base", 109'482'240, servers);
}

// Radford et al., "Language Models are Unsupervised Multitask Learners", 2019: the smallest, its output tied to its input.
inline ModelShapes Gpt2(int servers) {
  ShapeList list;
  list.Add("wte.weight", {50257, 768});
  list.Add("wpe.weight", {1024, 768});
  for (int layer = 0; layer < 12; ++layer) {
    const std::string prefix = Cat("h.", layer, ".");
    list.Norm(prefix + "ln_1", 768);
    list.Linear(prefix + "attn.c_attn", 768, 3 * 768);
    list.Linear(prefix + "attn.c_proj", 768, 768);
    list.Norm(prefix + "ln_2", 768);
    list.Linear(prefix + "mlp.c_fc", 768, 3072);
    list.Linear(prefix + "mlp.c_proj", 3072, 768);
  }
  list.Norm("ln_f", 768);
  return list.Make("GPT-2", 124'439'808, servers);
}

inline std::vector<ModelShapes> EveryModel(int servers) { return {ResNet50(servers), Vgg16(servers), BertBase(servers), Gpt2(servers)}; }

}  // namespace dtrain::ps

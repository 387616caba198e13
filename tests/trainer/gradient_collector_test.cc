// Goal: what the collector puts into the flat buffer is what autograd computes, in whatever order and however often gradients
// fire; buckets are said to be ready only when they are complete. Method: against an untouched copy of the net under plain
// autograd.
#include <ATen/ops/allclose.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/rand.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/nn/modules/embedding.h>
#include <torch/nn/modules/linear.h>
#include <torch/utils.h>

#include <set>

#include "trainer/local_exchange.h"
#include "trainer/torch_flat_model.h"
#include "trainer/torch_gradient_collector.h"

namespace dtrain {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

struct Net : torch::nn::Module {
  Net() {
    first = register_module("first", torch::nn::Linear(40, 300));
    shared = register_module("shared", torch::nn::Linear(300, 300));
    idle = register_module("idle", torch::nn::Linear(2, 2));
    words = register_module("words", torch::nn::Embedding(torch::nn::EmbeddingOptions(10, 40).sparse(true)));
  }
  torch::Tensor forward(const torch::Tensor& x) {
    const torch::Tensor input = x + words->forward(torch::arange(x.size(0)));
    return shared->forward(shared->forward(first->forward(input)));
  }
  torch::nn::Linear first{nullptr}, shared{nullptr}, idle{nullptr};
  torch::nn::Embedding words{nullptr};
};

// A net laid out flat with its collector, and an untouched copy of it.
struct Bench {
  explicit Bench(GradientPlace place, bool overlap = true) {
    torch::manual_seed(3);
    net = std::make_shared<Net>();
    torch::manual_seed(3);
    plain = std::make_shared<Net>();
    flat.emplace(*FlatModel::Make(net));
    ExchangeOptions options;
    options.place = place;
    options.buckets = {.bucket_bytes_max = 100'000, .first_bucket_bytes_max = 20'000};
    exchange = *MakeLocalExchange(options, flat->layout(), flat->buffer_layout());
    EXPECT_TRUE(exchange->Load(flat->InitialState()).ok());
    flat->Bind(exchange->flat());
    collector.emplace(exchange->flat(), exchange->buckets(), flat->trainable(),
                      CollectorOptions{.overlap = overlap, .on_ready = [this](BucketId bucket) { Ready(bucket); }});
  }

  void Ready(BucketId bucket) {
    EXPECT_TRUE(ready.insert(bucket).second);
    if (exchange->flat().gradients.empty()) return;
    // Complete at this very moment: it will not change any more.
    const auto part = exchange->flat().gradients.subspan(exchange->buckets()[bucket].begin, exchange->buckets()[bucket].size());
    at_ready[bucket].assign(part.begin(), part.end());
  }

  // One step of `leaves` leaves on both nets; `passes` backward passes a leaf.
  Status Step(int64_t leaves, int passes = 1) {
    ready.clear();
    plain->zero_grad();
    collector->StartStep(leaves, LeafOrder::kSequence);
    for (int64_t leaf = 0; leaf < leaves; ++leaf) {
      collector->StartLeaf();
      for (int pass = 0; pass < passes; ++pass) {
        const torch::Tensor x = torch::rand({6, 40});
        net->forward(x).square().sum().backward();
        plain->forward(x).square().sum().backward();
      }
      RETURN_IF_ERROR(collector->FinishLeaf());
    }
    return OkStatus();
  }

  void ExpectGradientsOfPlain() const {
    const auto named = plain->named_parameters();
    for (size_t i = 0; i < flat->layout().entries.size(); ++i) {
      const FlatEntry& entry = flat->layout().entries[i];
      const float* values =
          collector->gradients_of().empty() ? exchange->flat().gradients.data() + entry.offset : collector->gradients_of()[i];
      const torch::Tensor found = at::from_blob(const_cast<float*>(values), entry.info.shape);
      torch::Tensor expected = named[entry.info.name].grad();
      expected = expected.defined() ? expected.to_dense() : torch::zeros_like(found);
      EXPECT_TRUE(at::allclose(found, expected, 1e-4, 1e-5)) << entry.info.name;
    }
    for (const BucketId bucket : ready) {
      if (exchange->flat().gradients.empty()) break;
      const auto part = exchange->flat().gradients.subspan(exchange->buckets()[bucket].begin, exchange->buckets()[bucket].size());
      EXPECT_TRUE(std::ranges::equal(part, at_ready.at(bucket))) << "bucket " << bucket << " changed after it was ready";
    }
  }

  std::shared_ptr<Net> net, plain;
  std::optional<FlatModel> flat;
  std::unique_ptr<GradientExchange> exchange;
  std::set<BucketId> ready;
  std::map<BucketId, std::vector<float>> at_ready;
  std::optional<GradientCollector> collector;
};

TEST(GradientCollector, HoldsWhatAutogradComputes) {
  for (const GradientPlace place : {GradientPlace::kFlat, GradientPlace::kInPlace}) {
    for (const bool overlap : {false, true}) {
      Bench bench(place, overlap);
      for (const int64_t leaves : {1, 2, 3, 1, 2}) {
        ASSERT_TRUE(bench.Step(leaves).ok());
        bench.ExpectGradientsOfPlain();
        EXPECT_THAT(bench.collector->WithoutGradient(), ElementsAre("idle.bias", "idle.weight"));
      }
    }
  }
}

TEST(GradientCollector, SaysThatABucketIsReadyOnceItIsComplete) {
  Bench bench(GradientPlace::kFlat);
  const size_t buckets = bench.exchange->buckets().size();
  ASSERT_GT(buckets, 4u);
  for (int step = 0; step < 4; ++step) {
    ASSERT_TRUE(bench.Step(2).ok());
    bench.ExpectGradientsOfPlain();
    const auto remaining = bench.collector->RemainingBuckets();
    if (step < 2) {
      EXPECT_TRUE(bench.ready.empty());  // it is still learning
      EXPECT_EQ(remaining.size(), buckets);
    } else {
      // The unused layer is registered last but one and never fires, so its bucket is for the end.
      EXPECT_EQ(bench.ready.size() + remaining.size(), buckets);
      EXPECT_GE(bench.ready.size(), buckets - 2);
      for (const BucketId bucket : remaining) EXPECT_EQ(bench.ready.count(bucket), 0u);
    }
  }
}

TEST(GradientCollector, WithoutOverlapNothingIsReadyBeforeTheEnd) {
  Bench bench(GradientPlace::kFlat, false);
  for (int step = 0; step < 4; ++step) {
    ASSERT_TRUE(bench.Step(1, step + 1).ok());  // any number of passes
    bench.ExpectGradientsOfPlain();
    EXPECT_TRUE(bench.ready.empty());
  }
}

TEST(GradientCollector, SeveralPassesALeafAreLearned) {
  Bench bench(GradientPlace::kFlat);
  for (int step = 0; step < 4; ++step) {
    ASSERT_TRUE(bench.Step(1, 2).ok());
    bench.ExpectGradientsOfPlain();
  }
  EXPECT_FALSE(bench.ready.empty());
}

TEST(GradientCollector, AGradientThatComesTooLateIsAnErrorThatNamesIt) {
  Bench bench(GradientPlace::kFlat);
  for (int step = 0; step < 3; ++step) ASSERT_TRUE(bench.Step(1).ok());
  const Status status = bench.Step(1, 2);
  EXPECT_THAT(std::string(status.message()), HasSubstr("shared.bias"));
  EXPECT_THAT(Message(status), HasSubstr("strategy.overlap=false"));
}

TEST(GradientCollector, WhoVariesWhileItLearnsIsTakenAtTheEnd) {
  Bench bench(GradientPlace::kFlat);
  ASSERT_TRUE(bench.Step(1, 1).ok());
  ASSERT_TRUE(bench.Step(1, 2).ok());
  for (const int passes : {3, 1}) {
    ASSERT_TRUE(bench.Step(1, passes).ok());
    bench.ExpectGradientsOfPlain();
  }
}

}  // namespace
}  // namespace dtrain

// Goal: however many threads gather ahead, the training loop gets the batches of the sampler, in order, each exact; errors,
// restarts and the end come through, nothing hangs. Method: Gather called directly is the reference; sets that fail, block
// and throw on command. Runs under ThreadSanitizer too.
#include "datasets/loader.h"

#include <gmock/gmock.h>

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <stdexcept>
#include <thread>

#include "datasets/synthetic.h"
#include "datasets/transform.h"
#include "tests/datasets/test_data.h"

namespace dtrain {
namespace {

using ::testing::HasSubstr;
using namespace std::chrono_literals;

Deadline Soon() { return Deadline::In(30s); }

// Waits until `condition` holds; false after 30 s.
template <typename Condition>
bool Eventually(const Condition& condition) {
  for (const Deadline deadline = Soon(); !deadline.Passed(); std::this_thread::sleep_for(1ms)) {
    if (condition()) return true;
  }
  return false;
}

std::shared_ptr<const Dataset> Images(int64_t samples) {
  auto dataset = MakeSynthetic({.seed = 1, .samples = samples, .shape = {1, 4, 4}, .classes = 3});
  DTRAIN_CHECK(dataset.ok());
  return *std::move(dataset);
}

Sampler SamplerFor(const Dataset& dataset, int64_t batch, int64_t leaves, Remainder remainder = Remainder::kPad) {
  auto sampler =
      Sampler::Make({.seed = 4, .dataset_size = dataset.size(), .global_batch = batch, .leaves = leaves, .remainder = remainder});
  DTRAIN_CHECK(sampler.ok());
  return *std::move(sampler);
}

std::unique_ptr<Loader> MadeLoader(std::shared_ptr<const Dataset> dataset, const Sampler& sampler, const LoaderOptions& options) {
  auto loader = Loader::Make(std::move(dataset), sampler, options);
  DTRAIN_CHECK(loader.ok());
  return *std::move(loader);
}

// Takes all batches that are due and compares each with the reference.
void ExpectBatches(Loader& loader, const Dataset& dataset, Sampler sampler, Step first, int64_t first_leaf, int64_t leaf_count, Step end,
                   bool augment) {
  for (Step step = first; step < end; ++step) {
    for (int64_t leaf = first_leaf; leaf < first_leaf + leaf_count; ++leaf) {
      const auto batch = loader.Next(Soon());
      ASSERT_TRUE(batch.ok()) << batch.status();
      const AugmentContext context = {.seed = sampler.options().seed, .epoch = step / sampler.steps_per_epoch()};
      const auto indices = sampler.Indices(step, leaf);
      const Batch expected = Gathered(dataset, indices, augment ? &context : nullptr);
      ASSERT_EQ((*batch)->step, step);
      ASSERT_EQ((*batch)->leaf, leaf);
      ASSERT_EQ((*batch)->epoch, context.epoch);
      ASSERT_EQ((*batch)->first_position, sampler.FirstPosition(step, leaf));
      ASSERT_EQ((*batch)->indices, indices);
      ASSERT_EQ((*batch)->input_info(), expected.input_info());
      ASSERT_EQ(Inputs(**batch), Inputs(expected)) << "step " << step << ", leaf " << leaf;
      ASSERT_EQ(ClassTargets(**batch), ClassTargets(expected));
    }
  }
  EXPECT_EQ(loader.Next(Soon()).status().code(), StatusCode::kOutOfRange);
  EXPECT_EQ(loader.Next(Soon()).status().code(), StatusCode::kOutOfRange);  // and stays so
}

TEST(Loader, EqualsDirectGatherForAnyThreadsAndPrefetch) {
  const auto dataset = Images(103);
  for (const Remainder remainder : {Remainder::kPad, Remainder::kPartial}) {
    const Sampler sampler = SamplerFor(*dataset, 10, 4, remainder);
    for (const int threads : {0, 1, 3}) {
      for (const int prefetch : {1, 2, 7, 64}) {
        const auto loader = MadeLoader(dataset, sampler, {.threads = threads, .prefetch_batches = prefetch});
        loader->Start(0, 0, 4, 25);
        ASSERT_NO_FATAL_FAILURE(ExpectBatches(*loader, *dataset, sampler, 0, 0, 4, 25, false))
            << threads << " threads, prefetch " << prefetch;
      }
    }
  }
}

TEST(Loader, GivesARanksOwnLeavesOnly) {
  const auto dataset = Images(64);
  const Sampler sampler = SamplerFor(*dataset, 16, 8);
  const auto loader = MadeLoader(dataset, sampler, {.threads = 2});
  loader->Start(3, 4, 2, 11);
  ASSERT_NO_FATAL_FAILURE(ExpectBatches(*loader, *dataset, sampler, 3, 4, 2, 11, false));
}

TEST(Loader, AugmentationIsTheSameInAnyThread) {
  const Value transforms = Value::List{Value::Map{{"type", "pad_crop"}, {"pad", 1}}, Value::Map{{"type", "flip"}},
                                       Value::Map{{"type", "rotate"}, {"degrees", 30}}};
  const auto plain = Images(50);
  const auto list = MakeTransforms(transforms, plain->schema());
  ASSERT_TRUE(list.ok()) << list.status();
  const auto dataset = WithTransforms(plain, *list);
  const Sampler sampler = SamplerFor(*dataset, 8, 4);
  for (const int threads : {0, 1, 3}) {
    const auto loader = MadeLoader(dataset, sampler, {.threads = threads, .prefetch_batches = 5, .augment = true});
    loader->Start(0, 0, 4, 15);
    ASSERT_NO_FATAL_FAILURE(ExpectBatches(*loader, *dataset, sampler, 0, 0, 4, 15, true));
  }
  // The reference itself depends on the epoch, and is not what evaluation sees.
  const AugmentContext first = {.seed = 4, .epoch = 0}, second = {.seed = 4, .epoch = 1};
  const auto indices = Range(0, 20);
  EXPECT_NE(Inputs(Gathered(*dataset, indices, &first)), Inputs(Gathered(*dataset, indices, &second)));
  EXPECT_NE(Inputs(Gathered(*dataset, indices, &first)), Inputs(Gathered(*dataset, indices)));
}

TEST(Loader, RestartsInTheMiddle) {
  const auto dataset = Images(200);
  const Sampler sampler = SamplerFor(*dataset, 8, 4);
  for (const int threads : {0, 1, 3}) {
    const auto loader = MadeLoader(dataset, sampler, {.threads = threads, .prefetch_batches = 6});
    for (int round = 0; round < 50; ++round) {
      loader->Start(round, 0, 4, 1000);
      for (int i = 0; i < round % 7; ++i) ASSERT_TRUE(loader->Next(Soon()).ok());
    }
    loader->Start(70, 1, 3, 80);
    ASSERT_NO_FATAL_FAILURE(ExpectBatches(*loader, *dataset, sampler, 70, 1, 3, 80, false));
    loader->Start(5, 0, 1, 5);  // nothing to do
    EXPECT_EQ(loader->Next(Soon()).status().code(), StatusCode::kOutOfRange);
  }
}

TEST(Loader, TheBatchOfALoopStaysAsItIsUntilTheNextCall) {
  const auto dataset = Images(64);
  const auto loader = MadeLoader(dataset, SamplerFor(*dataset, 8, 1), {.threads = 3, .prefetch_batches = 1});
  loader->Start(0, 0, 1, 100);
  for (int i = 0; i < 100; ++i) {
    const auto batch = loader->Next(Soon());
    ASSERT_TRUE(batch.ok());
    const auto before = Inputs(**batch);
    if (i % 10 == 0) std::this_thread::sleep_for(1ms);  // threads have time to do harm
    ASSERT_EQ(Inputs(**batch), before);
  }
}

// A set whose Gather does what a test says before it gives samples.
class Commanded final : public Dataset {
 public:
  int64_t size() const override { return images_->size(); }
  const DatasetSchema& schema() const override { return images_->schema(); }
  std::string fingerprint() const override { return images_->fingerprint(); }
  Status Gather(std::span<const int64_t> indices, const AugmentContext* augment, Batch* batch) const override {
    const int call = calls++;
    if (blocked) {
      std::unique_lock lock(mutex_);
      ++waiting;
      opened_.wait(lock, [this] { return !blocked; });
      --waiting;
    }
    if (call == fail_at_call) return DataLoss("disk gone");
    if (call == throw_at_call) throw std::runtime_error("user's own trouble");
    return images_->Gather(indices, augment, batch);
  }
  void Open() {
    const std::lock_guard lock(mutex_);
    blocked = false;
    opened_.notify_all();
  }

  mutable std::atomic<int> calls = 0, waiting = 0;
  std::atomic<bool> blocked = false;
  std::atomic<int> fail_at_call = -1, throw_at_call = -1;

 private:
  std::shared_ptr<const Dataset> images_ = Images(64);
  mutable std::mutex mutex_;
  mutable std::condition_variable opened_;
};

TEST(Loader, AnErrorOfTheSetComesAtItsPlaceAndStays) {
  for (const int threads : {0, 1}) {
    const auto dataset = std::make_shared<Commanded>();
    dataset->fail_at_call = 2;
    const auto loader = MadeLoader(dataset, SamplerFor(*dataset, 8, 1), {.threads = threads});
    loader->Start(0, 0, 1, 8);
    EXPECT_TRUE(loader->Next(Soon()).ok());
    EXPECT_TRUE(loader->Next(Soon()).ok());
    for (int i = 0; i < 3; ++i) {
      const auto failed = loader->Next(Soon());
      EXPECT_EQ(failed.status().code(), StatusCode::kDataLoss);
      EXPECT_THAT(Message(failed.status()), HasSubstr("disk gone"));
    }
    loader->Start(2, 0, 1, 8);  // the disk is back
    ASSERT_NO_FATAL_FAILURE(ExpectBatches(*loader, *Images(64), SamplerFor(*dataset, 8, 1), 2, 0, 1, 8, false));
  }
}

TEST(Loader, AnExceptionOfTheSetIsAnError) {
  for (const int threads : {0, 2}) {
    const auto dataset = std::make_shared<Commanded>();
    dataset->throw_at_call = 0;
    const auto loader = MadeLoader(dataset, SamplerFor(*dataset, 64, 1), {.threads = threads, .prefetch_batches = 1});
    loader->Start(0, 0, 1, 1);
    const auto failed = loader->Next(Soon());
    EXPECT_EQ(failed.status().code(), StatusCode::kInternal);
    EXPECT_THAT(Message(failed.status()), HasSubstr("user's own trouble"));
  }
}

TEST(Loader, GivesUpAtTheDeadlineAndGoesOnLater) {
  const auto dataset = std::make_shared<Commanded>();
  dataset->blocked = true;
  const Sampler sampler = SamplerFor(*dataset, 8, 2);
  const auto loader = MadeLoader(dataset, sampler, {.threads = 1});
  loader->Start(3, 1, 1, 8);
  for (int i = 0; i < 2; ++i) {
    const auto late = loader->Next(Deadline::In(5ms));
    EXPECT_EQ(late.status().code(), StatusCode::kDeadlineExceeded);
    EXPECT_THAT(Message(late.status()), HasSubstr("step 3, leaf 1 was not ready in time"));
  }
  dataset->Open();
  ASSERT_NO_FATAL_FAILURE(ExpectBatches(*loader, *Images(64), sampler, 3, 1, 1, 8, false));
}

TEST(Loader, GathersNoFurtherAheadThanAllowed) {
  for (const int prefetch : {1, 3}) {
    const auto dataset = std::make_shared<Commanded>();
    const auto loader = MadeLoader(dataset, SamplerFor(*dataset, 4, 1), {.threads = 2, .prefetch_batches = prefetch});
    loader->Start(0, 0, 1, 1000);
    ASSERT_TRUE(loader->Next(Soon()).ok());
    // The batch in hand and those ahead of it.
    ASSERT_TRUE(Eventually([&] { return dataset->calls == 1 + prefetch; }));
    std::this_thread::sleep_for(20ms);
    EXPECT_EQ(dataset->calls, 1 + prefetch);
    ASSERT_TRUE(loader->Next(Soon()).ok());
    ASSERT_TRUE(Eventually([&] { return dataset->calls == 2 + prefetch; }));
  }
}

TEST(Loader, EndsWhileThreadsAreAtWork) {
  const auto dataset = std::make_shared<Commanded>();
  dataset->blocked = true;
  auto loader = MadeLoader(dataset, SamplerFor(*dataset, 8, 1), {.threads = 3});
  loader->Start(0, 0, 1, 100);
  ASSERT_TRUE(Eventually([&] { return dataset->waiting == 3; }));
  std::thread opener([&] {
    std::this_thread::sleep_for(10ms);
    dataset->Open();
  });
  loader.reset();  // waits for the three batches in work, for no more
  opener.join();
  EXPECT_EQ(dataset->calls, 3);
}

TEST(Loader, EndsWithoutAStart) {
  const auto dataset = Images(64);
  for (const int threads : {0, 3}) {
    const auto loader = MadeLoader(dataset, SamplerFor(*dataset, 8, 1), {.threads = threads});
    EXPECT_EQ(loader->Next(Soon()).status().code(), StatusCode::kFailedPrecondition);
  }
}

TEST(Loader, OptionsOutOfRangeAreRefused) {
  const auto dataset = Images(64);
  const Sampler sampler = SamplerFor(*dataset, 8, 1);
  const auto error = [&](const Sampler& with, const LoaderOptions& options) {
    return Message(Loader::Make(dataset, with, options).status());
  };
  EXPECT_THAT(error(sampler, {.threads = -1}), HasSubstr("loader threads: found -1"));
  EXPECT_THAT(error(sampler, {.threads = 1000}), HasSubstr("loader threads"));
  EXPECT_THAT(error(sampler, {.threads = 1, .prefetch_batches = 0}), HasSubstr("loader prefetch"));
  EXPECT_THAT(error(SamplerFor(*Images(63), 8, 1), {}), HasSubstr("it has 64 samples, the sampler is for 63"));
}

}  // namespace
}  // namespace dtrain

// Goal: docs/checkpoint_format.md shows what is really written. Method: the page's checkpoint in bytes, file by file.
#include <gtest/gtest.h>

#include <string>

#include "tests/base/documented_bytes.h"
#include "tests/sim/sim_storage.h"
#include "tests/trainer/checkpoint/sample_checkpoint.h"

namespace dtrain {
namespace {

TEST(CheckpointDocumentation, ExampleInBytesIsWhatIsWritten) {
  SimStorage disk;
  CheckpointStore store(disk, "run", {});
  Checkpoint checkpoint{.step = 500};
  checkpoint.model = {SampleTensor<float>("fc.bias", DType::kF32, {2}, {0.5f, -1.0f})};
  checkpoint.state.Set("epoch", 4);
  ASSERT_TRUE(store.Save(checkpoint).ok());
  for (const std::string file : {"model.safetensors", "optimizer.safetensors", "state.json", "manifest.json"}) {
    const auto documented = DocumentedBytes(DTRAIN_SOURCE_DIR "/docs/checkpoint_format.md", file);
    const auto written = disk.Contents("run/checkpoints/step-000500/" + file);
    const std::string text(reinterpret_cast<const char*>(written.data()), written.size());
    ASSERT_TRUE(documented.ok()) << documented.status() << "\nit is:\n" << text;
    EXPECT_EQ(Hex(*documented), Hex(written)) << "it is:\n" << text;
  }
}

}  // namespace
}  // namespace dtrain

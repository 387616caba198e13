#include "datasets/mnist.h"

#include <filesystem>

#include "base/check.h"
#include "datasets/images.h"

namespace dtrain {
namespace {

constexpr std::string_view kDebianFolder = "/usr/share/datasets/fashion-mnist";

struct Part {
  const char *images_name, *images_sha256, *labels_name, *labels_sha256;
};
struct Known {
  Part train, test;
  std::vector<std::string> class_names;
  const char* hint;
};

// Hashes of the unpacked bytes: the same files are about in several wrappings.
const Known& KnownSet(std::string_view name) {
  static const Known mnist = {{"train-images-idx3-ubyte", "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
                               "train-labels-idx1-ubyte", "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"},
                              {"t10k-images-idx3-ubyte", "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
                               "t10k-labels-idx1-ubyte", "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"},
                              {"0", "1", "2", "3", "4", "5", "6", "7", "8", "9"},
                              "put the four idx files there, or point data.root or DTRAIN_DATA at the folder above them "
                              "(scripts/get-data.sh mnist says where they come from)"};
  static const Known fashion = {{"train-images-idx3-ubyte", "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
                                 "train-labels-idx1-ubyte", "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9"},
                                {"t10k-images-idx3-ubyte", "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
                                 "t10k-labels-idx1-ubyte", "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34"},
                                {"T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"},
                                "run scripts/get-data.sh fashion-mnist, or point data.root or DTRAIN_DATA at the folder above it"};
  DTRAIN_CHECK(name == "mnist" || name == "fashion-mnist");
  return name == "mnist" ? mnist : fashion;
}

// The file, packed or plain, in the first folder that has it; empty if none.
std::string Find(const std::vector<std::string>& folders, const char* file_name) {
  for (const std::string& folder : folders) {
    for (const char* ending : {".gz", ""}) {
      std::string path = Cat(folder, "/", file_name, ending);
      std::error_code ignored;
      if (std::filesystem::exists(path, ignored)) return path;
    }
  }
  return "";
}

}  // namespace

StatusOr<DatasetParts> OpenMnist(std::string_view name, const std::string& root) {
  const Known& known = KnownSet(name);
  std::vector<std::string> folders = {(std::filesystem::path(root) / name).string()};
  // A path that ends in a slash has an empty last part.
  if (std::filesystem::path(root + "/").parent_path().filename() == name) folders.push_back(root);
  if (name == "fashion-mnist") folders.emplace_back(kDebianFolder);

  const DatasetSchema schema = {.name = std::string(name),
                                .task = TaskType::kClassification,
                                .input_dtype = DType::kF32,
                                .target_dtype = DType::kI64,
                                .classes = 10,
                                .class_names = known.class_names};
  DatasetParts parts;
  for (const auto& [part, dataset] : {std::pair(known.train, &parts.train), std::pair(known.test, &parts.test)}) {
    IdxPair files = {.images_sha256 = part.images_sha256, .labels_sha256 = part.labels_sha256};
    for (const auto& [file_name, path] :
         {std::pair(part.images_name, &files.images_path), std::pair(part.labels_name, &files.labels_path)}) {
      *path = Find(folders, file_name);
      if (path->empty()) {
        return WithHint(NotFound("open data set ", name, ": no ", file_name, " nor ", file_name, ".gz in ", Join(folders, ", ")),
                        known.hint);
      }
    }
    ASSIGN_OR_RETURN(*dataset, OpenIdxImages(files, schema));
  }
  return parts;
}

}  // namespace dtrain

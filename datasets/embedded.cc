#include "datasets/embedded.h"

#include <cstddef>
#include <span>

#include "datasets/csv.h"
#include "datasets/file_bytes.h"
#include "datasets/table.h"

// The assembler copies the files into the read-only data of the library.
#define DTRAIN_EMBED(symbol, file)                                                   \
  asm(".pushsection .rodata\n"                                                       \
      ".balign 16\n" #symbol                                                         \
      "_begin:\n"                                                                    \
      ".incbin \"" DTRAIN_EMBEDDED_FOLDER "/" file "\"\n" #symbol                    \
      "_end:\n"                                                                      \
      ".popsection\n");                                                              \
  extern "C" const std::byte symbol##_begin[] __attribute__((visibility("hidden"))); \
  extern "C" const std::byte symbol##_end[] __attribute__((visibility("hidden")))

DTRAIN_EMBED(dtrain_embedded_digits, "digits.csv.gz");
DTRAIN_EMBED(dtrain_embedded_iris, "iris.csv");

namespace dtrain {
namespace {

std::string_view AsText(std::span<const std::byte> bytes) { return {reinterpret_cast<const char*>(bytes.data()), bytes.size()}; }

}  // namespace

StatusOr<std::shared_ptr<const Dataset>> OpenDigits() {
  ASSIGN_OR_RETURN(const auto bytes, GunzipBytes("embedded digits", {dtrain_embedded_digits_begin, dtrain_embedded_digits_end}));
  ASSIGN_OR_RETURN(Table table, ParseCsv("embedded digits", AsText(bytes), {.header = false}));
  for (float& pixel : table.inputs) pixel /= 16;
  table.schema.name = "digits";
  table.schema.input_shape = {1, 8, 8};
  table.schema.column_names.clear();
  return std::make_shared<const TableDataset>(std::move(table));
}

StatusOr<std::shared_ptr<const Dataset>> OpenIris() {
  std::string_view text = AsText({dtrain_embedded_iris_begin, dtrain_embedded_iris_end});
  text.remove_prefix(text.find('\n') + 1);  // "150,4,setosa,versicolor,virginica"
  ASSIGN_OR_RETURN(Table table, ParseCsv("embedded iris", text, {.header = false}, 2));
  table.schema.name = "iris";
  table.schema.class_names = {"setosa", "versicolor", "virginica"};
  table.schema.column_names = {"sepal length", "sepal width", "petal length", "petal width"};
  return std::make_shared<const TableDataset>(std::move(table));
}

}  // namespace dtrain

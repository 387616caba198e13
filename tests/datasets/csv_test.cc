// Goal: CSV files are read as RFC 4180 means them, and what is wrong is said with its line. Method: the cases of the RFC and
// of the files people have, each with the numbers that must come out.
#include "datasets/csv.h"

#include <gmock/gmock.h>

#include <set>

#include "datasets/embedded.h"
#include "tests/datasets/test_data.h"

namespace dtrain {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

Table Parsed(std::string_view text, const CsvOptions& options = {}) {
  auto table = ParseCsv("t.csv", text, options);
  EXPECT_TRUE(table.ok()) << table.status();
  return table.ok() ? *std::move(table) : Table();
}

std::string Error(std::string_view text, const CsvOptions& options = {}) {
  const auto table = ParseCsv("t.csv", text, options);
  EXPECT_EQ(table.status().code(), StatusCode::kInvalidArgument) << text;
  return Message(table.status());
}

TEST(Csv, HeaderNumbersAndClasses) {
  const Table table = Parsed("x,y,label\n1,2.5,0\n-3e2,+4,1\n");
  EXPECT_THAT(table.schema.column_names, ElementsAre("x", "y"));
  EXPECT_THAT(table.schema.input_shape, ElementsAre(2));
  EXPECT_THAT(table.inputs, ElementsAre(1, 2.5f, -300, 4));
  EXPECT_THAT(table.class_targets, ElementsAre(0, 1));
  EXPECT_EQ(table.schema.classes, 2);
  EXPECT_EQ(table.schema.name, "t.csv");
}

TEST(Csv, LineEndsOfAllKindsAndAByteOrderMark) {
  const std::vector<float> expected = {1, 2, 3};
  for (const std::string_view text :
       {"x,l\n1,0\n2,1\n3,0\n", "x,l\n1,0\n2,1\n3,0", "x,l\r\n1,0\r\n2,1\r\n3,0\r\n", "x,l\r\n1,0\r\n2,1\r\n3,0\r",
        "\xEF\xBB\xBFx,l\n1,0\n2,1\n3,0\n", "\n\nx,l\n\n1,0\n\r\n2,1\n3,0\n\n"}) {
    const Table table = Parsed(text, {.label = "l"});
    EXPECT_EQ(table.inputs, expected) << text;
    EXPECT_THAT(table.class_targets, ElementsAre(0, 1, 0)) << text;
    EXPECT_THAT(table.schema.column_names, ElementsAre("x")) << text;
  }
}

TEST(Csv, QuotedFieldsWithDelimitersQuotesAndLineBreaks) {
  const Table table = Parsed("\"a,b\",\"say \"\"x\"\"\",\"l\"\r\n\"1\",2,\"yes, sir\"\r\n3,\"4\",\"no\"\"\nway\"\r\n");
  EXPECT_THAT(table.schema.column_names, ElementsAre("a,b", "say \"x\""));
  EXPECT_THAT(table.inputs, ElementsAre(1, 2, 3, 4));
  EXPECT_THAT(table.schema.class_names, ElementsAre("no\"\nway", "yes, sir"));
  EXPECT_THAT(table.class_targets, ElementsAre(1, 0));
}

TEST(Csv, LinesAreCountedThroughQuotedLineBreaks) {
  EXPECT_THAT(Error("x,l\n1,\"a\nb\"\n?,c\n"), StartsWith("t.csv:4:x: found \"?\", expected a finite number"));
}

TEST(Csv, OtherDelimiters) {
  EXPECT_THAT(Parsed("a;b;c\n1;2;0\n3;4;1\n", {.delimiter = ';'}).inputs, ElementsAre(1, 2, 3, 4));
  EXPECT_THAT(Parsed("1\t2\tx,y\n3\t4\tz\n", {.header = false, .delimiter = '\t'}).schema.class_names, ElementsAre("x,y", "z"));
}

TEST(Csv, LabelByNameByNumberAndFromTheEnd) {
  const std::string_view text = "l,x,y\n0,1,2\n1,3,4\n";
  for (const std::string label : {"l", "0", "-3"}) {
    const Table table = Parsed(text, {.label = label});
    EXPECT_THAT(table.class_targets, ElementsAre(0, 1)) << label;
    EXPECT_THAT(table.inputs, ElementsAre(1, 2, 3, 4)) << label;
    EXPECT_THAT(table.schema.column_names, ElementsAre("x", "y")) << label;
  }
  EXPECT_THAT(Parsed(text, {.label = "x"}).schema.class_names, ElementsAre("1", "3"));
  EXPECT_THAT(Parsed(text).schema.class_names, ElementsAre("2", "4"));  // the last
}

// A column may be called "2"; its name goes before its number.
TEST(Csv, ANameGoesBeforeANumber) {
  EXPECT_THAT(Parsed("2,x,y\n7,1,2\n8,3,4\n", {.label = "2"}).schema.class_names, ElementsAre("7", "8"));
}

TEST(Csv, LabelsThatAreNotThere) {
  EXPECT_THAT(Error("age,income,label\n1,2,0\n", {.label = "lable"}),
              AllOf(HasSubstr("no column \"lable\""), HasSubstr("did you mean \"label\"?")));
  EXPECT_THAT(Error("a,b\n1,2\n", {.label = "2"}), HasSubstr("label column 2, but there are 2 columns (expected -2 to 1)"));
  EXPECT_THAT(Error("a,b\n1,2\n", {.label = "-3"}), HasSubstr("label column -3"));
  EXPECT_THAT(Error("1,2\n3,4\n", {.label = "l", .header = false}), HasSubstr("without a header give the label's number"));
  EXPECT_THAT(Error("a,a,b\n1,2,3\n", {.label = "a"}), HasSubstr("two columns are called \"a\""));
}

TEST(Csv, RaggedRowsAreNamedByLine) {
  EXPECT_THAT(Error("a,b,c\n1,2,0\n1,2\n"), StartsWith("t.csv:3: 2 fields, expected 3"));
  EXPECT_THAT(Error("a,b,c\n1,2,0\n1,2,3,4\n"), StartsWith("t.csv:3: 4 fields, expected 3"));
  EXPECT_THAT(Error("a,b,c\n1,2,\n3,4,1\n"), StartsWith("t.csv:2:c: the label is empty"));
}

TEST(Csv, WhatIsNoFiniteNumberIsRefusedWithLineAndColumn) {
  for (const std::string_view field : {"NA", "", "?", "1,5", "0x10", "nan", "inf", "-inf", "1e39", "1 2", "+-5", "--1", "12abc", "1e"}) {
    EXPECT_THAT(Error(Cat("x,l\n1,0\n\"", field, "\",1\n")), StartsWith(Cat("t.csv:3:x: found \"", field, "\", expected a finite number")))
        << field;
  }
}

TEST(Csv, QuotesOutOfPlaceAreRefused) {
  EXPECT_THAT(Error("x,l\n\"1,0\n2,1\n"), StartsWith("t.csv:2: a quoted field has no closing quote"));
  EXPECT_THAT(Error("x,l\n\"1\"2,0\n"), StartsWith("t.csv:2: found '2' after a closing quote"));
}

TEST(Csv, EmptyFiles) {
  EXPECT_THAT(Error(""), HasSubstr("empty file"));
  EXPECT_THAT(Error("\n\r\n"), HasSubstr("empty file"));
  EXPECT_THAT(Error("x,l\n"), HasSubstr("a header but no rows"));
  EXPECT_THAT(Error("a;b\n1;2\n"), AllOf(HasSubstr("one column"), HasSubstr("is ',' the delimiter")));
}

TEST(Csv, ClassesAreNumberedByValueNotByText) {
  const Table table = Parsed("x,l\n0,10\n0,9\n0,-1\n0,9\n");
  EXPECT_THAT(table.schema.class_names, ElementsAre("-1", "9", "10"));
  EXPECT_THAT(table.class_targets, ElementsAre(2, 1, 0, 1));
}

TEST(Csv, OneValueInTwoSpellingsIsOneClass) {
  const Table integers = Parsed("x,l\n0,1\n0,01\n0,2\n");
  EXPECT_EQ(integers.schema.classes, 2);
  EXPECT_THAT(integers.class_targets, ElementsAre(0, 0, 1));
  const Table numbers = Parsed("x,l\n0,1.0\n0,1\n0,0.5\n", {.task = TaskType::kBinary});
  EXPECT_THAT(numbers.number_targets, ElementsAre(1, 1, 0));
}

TEST(Csv, BinaryAndRegression) {
  const Table binary = Parsed("x,l\n1,yes\n2,no\n3,yes\n", {.task = TaskType::kBinary});
  EXPECT_THAT(binary.number_targets, ElementsAre(1, 0, 1));
  EXPECT_EQ(binary.schema.target_dtype, DType::kF32);
  EXPECT_THAT(binary.schema.class_names, ElementsAre("no", "yes"));
  EXPECT_THAT(Error("x,l\n1,0\n2,1\n3,2\n", {.task = TaskType::kBinary}), HasSubstr("3 different labels (0, 1, 2), expected 2"));

  const Table regression = Parsed("x,price\n1,2.5\n2,-7\n", {.task = TaskType::kRegression});
  EXPECT_THAT(regression.number_targets, ElementsAre(2.5f, -7));
  EXPECT_EQ(regression.schema.classes, 0);
  EXPECT_THAT(Error("x,price\n1,2.5\n2,much\n", {.task = TaskType::kRegression}), StartsWith("t.csv:3:price: found \"much\""));
}

TEST(Csv, FractionsAreNoClasses) {
  EXPECT_THAT(Error("x,l\n1,0\n2,0.5\n"), AllOf(StartsWith("t.csv:3:l: label 0.5"), HasSubstr("data.task: regression")));
  EXPECT_THAT(Error("x,l\n1,7\n2,7\n"), HasSubstr("has 1 label (7), expected at least 2"));
}

TEST(Csv, ARowOfTooManyFieldsStopsAtTheLimit) { EXPECT_THAT(Error(std::string(2 << 20, ',')), HasSubstr("more than 1,048,576 fields")); }

TEST(Csv, OpensFilesPlainAndPacked) {
  const TempFolder folder;
  const std::string text = "x,l\n1,0\n2,1\n";
  const auto plain = OpenCsv(folder.Write("a.csv", text), {}), packed = OpenCsv(folder.Write("a.csv.gz", Gzip(text)), {});
  ASSERT_TRUE(plain.ok()) << plain.status();
  ASSERT_TRUE(packed.ok()) << packed.status();
  EXPECT_EQ((*plain)->fingerprint(), (*packed)->fingerprint());
  const Batch batch = Gathered(**packed, {1, 0, 1});
  EXPECT_THAT(Inputs(batch), ElementsAre(2, 1, 2));
  EXPECT_THAT(ClassTargets(batch), ElementsAre(1, 0, 1));
  EXPECT_EQ(OpenCsv(folder.path() + "/b.csv", {}).status().code(), StatusCode::kNotFound);
}

TEST(Csv, TheFingerprintSeesNumbersShapeAndTargets) {
  std::vector<std::string> prints;
  for (const std::string_view text : {"1,2,0\n3,4,1\n", "1,2,0\n3,5,1\n", "1,2,1\n3,4,0\n", "1,2,3,4,0\n1,2,3,4,1\n"}) {
    prints.push_back(TableDataset(Parsed(text, {.header = false})).fingerprint());
  }
  const std::set<std::string> different(prints.begin(), prints.end());
  EXPECT_EQ(different.size(), prints.size());
}

// The published file has missing incomes; the first stands in line 8.
TEST(RealCsv, MissingValuesOfGiveMeSomeCreditAreNamed) {
  const std::string name = "give-me-some-credit/cs-training.csv.gz";
  DTRAIN_NEEDS_DATA(name);
  const auto opened = OpenCsv(RealDataFolder() + "/" + name, {.label = "SeriousDlqin2yrs", .task = TaskType::kBinary});
  EXPECT_THAT(Message(opened.status()), HasSubstr("cs-training.csv.gz:8:MonthlyIncome: found \"NA\""));
}

TEST(RealCsv, IrisAsPublishedEqualsItsEmbeddedForm) {
  DTRAIN_NEEDS_DATA("iris/iris.csv");
  const auto opened = OpenCsv(RealDataFolder() + "/iris/iris.csv", {});
  // Its first line has as many fields as its rows, so it passes for a header.
  ASSERT_TRUE(opened.ok()) << opened.status();
  const auto embedded = OpenIris();
  ASSERT_TRUE(embedded.ok()) << embedded.status();
  EXPECT_EQ((*opened)->schema().classes, 3);
  EXPECT_EQ((*opened)->fingerprint(), (*embedded)->fingerprint());
}

}  // namespace
}  // namespace dtrain
